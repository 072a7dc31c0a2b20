"""What a user has told the page: on disk at once, undone and done again, one process at a time."""

import numpy as np
import pytest
from PIL import Image

from mgcl.page.marks import NOT
from mgcl.page.project import Project, check_writable
from mgcl.predict.supports import read_supports

SIZE = (40, 50)


@pytest.fixture
def paths(tmp_path):
    found = {}
    for key in ("a.png", "sub/b.png"):
        found[key] = tmp_path / key
        found[key].parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(found[key])
    return found


@pytest.fixture
def project(tmp_path, paths):
    made = Project(tmp_path / "kept", paths, {"window": 256})
    yield made
    made.close()


def square(side: int = 10) -> np.ndarray:
    return np.ones((side, side), bool)


def again(project: Project) -> Project:
    """As after a kill: the lock goes with the process, nothing else is done."""
    project.close()
    return Project(project.folder, project.paths, project.constants)


def test_what_is_marked_is_on_disk_at_once(project):
    ship = project.add_class("ship", "#102030")
    project.add_class("plane")
    assert project.mark("sub/b.png", SIZE, (5, 6), square(), ship.number)
    assert project.mark("a.png", SIZE, (0, 0), square(), ship.number + NOT)
    project.set_threshold(0.7)
    new = again(project)
    assert new.classes == project.classes
    assert new.threshold == 0.7
    assert (new.marks.plane("sub/b.png")[5:15, 6:16] == ship.number).all()
    assert new.counts() == {1: (1, 1), 2: (0, 0)}
    new.close()


def test_a_mark_that_reaches_over_the_border_is_cut(project):
    number = project.add_class("ship").number
    assert project.mark("a.png", SIZE, (-5, -5), square(), number)
    assert project.mark("a.png", SIZE, (35, 45), square(), number)
    assert not project.mark("a.png", SIZE, (60, 0), square(), number)
    assert (project.marks.plane("a.png") == number).sum() == 50


def test_changes_are_undone_and_done_again(project):
    ship, plane = project.add_class("ship"), project.add_class("plane")
    project.mark("a.png", SIZE, (0, 0), square(), ship.number)
    project.mark("a.png", SIZE, (5, 5), square(), plane.number)
    after = project.marks.plane("a.png").copy()
    project.remove_class(plane.number)
    assert project.marks.plane("a.png").sum() == 75 * ship.number
    assert project.undo() == ["a.png"]
    assert (project.marks.plane("a.png") == after).all()
    assert project.classes == [ship, plane]
    for _ in range(4):
        assert project.undo() is not None
    assert project.undo() is None
    assert project.classes == [] and not project.marks.plane("a.png").any()
    while project.redo() is not None:
        pass
    assert project.classes == [ship] and project.counts() == {1: (1, 0)}
    project.undo()
    project.mark("a.png", SIZE, (20, 20), square(), ship.number)
    assert project.redo() is None  # another way was taken


def test_predict_reads_what_the_page_writes(project, capsys):
    ship = project.add_class("ship", "#ff0000").number
    project.add_class("never marked")
    project.mark("a.png", SIZE, (0, 0), square(), ship)
    project.mark("sub/b.png", SIZE, (0, 0), square(), ship + NOT)
    found = read_supports(project.folder / "project.toml")
    (c,) = found.classes
    assert "never marked" in capsys.readouterr().err
    assert (c.name, c.colour) == ("ship", "#ff0000")
    assert [g.image.resolve() for g in c.supports] == [project.paths["a.png"]]
    assert [g.image.resolve() for g in c.negatives] == [project.paths["sub/b.png"]]
    assert found.constants == {"window": 256, "threshold": 0.5}


def test_a_threshold_that_a_class_was_given_by_hand_stays_in_the_file(project):
    ship = project.add_class("ship", "#ff0000").number
    project.mark("a.png", SIZE, (0, 0), square(), ship)
    file = project.folder / "project.toml"
    file.write_text(file.read_text().replace('name = "ship"', 'name = "ship"\nthreshold = 0.8'))
    new = again(project)
    new.mark("sub/b.png", SIZE, (0, 0), square(), ship)
    assert read_supports(file).thresholds(["ship", "other"], 0.5) == (0.8, 0.5)
    new.close()


def test_killed_between_label_and_file_nothing_is_lost(project):
    number = project.add_class("ship").number
    before = (project.folder / "project.toml").read_bytes()
    project.mark("a.png", SIZE, (0, 0), square(), number)
    project.mark("a.png", SIZE, (0, 0), square(3), 7)  # of a class whose file came too late
    (project.folder / "project.toml").write_bytes(before)
    new = again(project)
    assert [c.name for c in new.classes] == ["ship", "class 7"]
    assert new.counts() == {1: (1, 0), 7: (1, 0)}
    assert len(read_supports(new.folder / "project.toml").classes) == 2
    new.close()


def test_damaged_marks_are_named_and_the_rest_goes_on(project):
    number = project.add_class("ship").number
    for key in project.paths:
        project.mark(key, SIZE, (0, 0), square(), number)
    project.marks.path("a.png").write_bytes(b"no picture")
    new = again(project)
    assert new.counts() == {1: (1, 0)}
    assert "a.png.png" in new.said[0]
    new.close()


def test_two_pages_never_hold_one_project(project, paths):
    with pytest.raises(ValueError, match="in use by another process"):
        Project(project.folder, paths, {})


def test_a_file_that_is_no_project_is_refused_and_left_alone(tmp_path):
    (tmp_path / "project.toml").write_text("[[classes]]\nnickname = 3\n")
    with pytest.raises(ValueError, match="no project of the page"):
        Project(tmp_path, {}, {})
    assert "nickname" in (tmp_path / "project.toml").read_text()


@pytest.mark.parametrize("name", ["", "  ", "SHIP"])
def test_class_names_are_told_apart(project, name):
    project.add_class("ship")
    with pytest.raises(ValueError, match="class"):
        project.add_class(name)


def test_a_folder_that_cannot_be_written_to_is_named_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="--project DIR"):
        check_writable(tmp_path / "file" / "kept")
