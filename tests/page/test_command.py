"""The command line: what is missing or cannot be used is a line that says what to do."""

import pytest

from mgcl import console
from mgcl.page import command
from tests.page.scenes import begin, write_scenes


def test_without_its_packages_it_says_the_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main([str(tmp_path)]) == console.USAGE
    assert "pip install -r requirements-page.txt" in capsys.readouterr().err


def test_a_folder_that_takes_no_files_offers_another_place(capsys, tmp_path):
    write_scenes(tmp_path / "scenes", 1)
    (tmp_path / "scenes" / "mgcl-page").touch()  # root may write anywhere: a file in the way
    words = [str(tmp_path / "scenes"), "--no-browser", "--port", "0"]
    assert command.main(words) == console.USAGE
    assert "--project DIR" in capsys.readouterr().err


def test_no_such_folder(capsys, tmp_path):
    words = [str(tmp_path / "nowhere"), "--no-browser", "--port", "0"]
    assert command.main(words) == console.USAGE
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_second_page_on_a_folder_is_refused(capsys, tmp_path):
    write_scenes(tmp_path / "scenes", 1)
    first = begin(tmp_path / "scenes")
    words = [str(tmp_path / "scenes"), "--no-browser", "--port", "0"]
    assert command.main(words) == console.USAGE
    assert "in use by another process" in capsys.readouterr().err
    first.close()


def test_a_port_that_is_taken_is_named(tmp_path):
    taken = command._listen(0)
    with pytest.raises(ValueError, match="--port"):
        command._listen(taken.getsockname()[1])
    taken.close()


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
def test_a_port_that_cannot_be_is_refused(capsys, tmp_path, port):
    with pytest.raises(SystemExit, match="2"):
        command.main([str(tmp_path), "--port", port])
    assert "--port" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--window", "0"), ("--overlap", "2")])
def test_windows_that_cannot_be_laid_are_refused_before_anything_is_made(
    capsys, tmp_path, option, value
):
    write_scenes(tmp_path, 1)
    words = [str(tmp_path), "--no-browser", "--port", "0", option, value]
    assert command.main(words) == console.USAGE
    assert f"{option} {value}" in capsys.readouterr().err
    assert not (tmp_path / "mgcl-page").exists()


@pytest.mark.parametrize("name", ["lm.json", "broken.png"])
def test_a_file_that_is_no_picture_is_refused_and_leaves_nothing(capsys, tmp_path, name):
    (tmp_path / name).write_text("{}")
    words = [str(tmp_path / name), "--no-browser", "--port", "0"]
    assert command.main(words) == console.USAGE
    assert name in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_without_pictures_gets_no_project(tmp_path):
    session = begin(tmp_path)
    session.search.wait(20)
    session.close()
    assert list(tmp_path.iterdir()) == []
