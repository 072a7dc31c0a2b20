"""The documentation: every command runs, every example of Python too, every link leads somewhere.

A document's commands are run in their order, in a folder that looks like a user's checkout with
data (`box`). They run as they are written, behind the words of SHORT, which make them small. What
would take too long, or needs what is not here, is only parsed (PARSED) or left to others (LEFT).
"""

import argparse
import importlib
import inspect
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgcl import config
from mgcl.__main__ import COMMANDS
from mgcl.config import reading, reference
from mgcl.datasets.synthetic.command import write_synthetic
from tests.small_run import REPOSITORY

DOCUMENTS = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *REPOSITORY.glob("docs/*.md"),
        *REPOSITORY.glob("data/**/README.md"),
    ],
    key=lambda path: (path.parent != REPOSITORY, path.name != "README.md", path),
)

# In front of the words of programs that read a config: no GPU, no weights, a few episodes.
TINY = """
    --run.device cpu --run.threads 1 --data.image_size 64 --data.workers 0
    --masks.generator superpixels --model.backbone efficientnet_lite0 --train.epochs 1
    --train.episodes_per_epoch 4 --train.batch_size 2 --train.calibration_episodes 4
    --train.validation_episodes 4 --train.freeze_backbone true --test.max_episodes 4
    --test.shots 1 --test.panels 1 --test.baselines false --test.must_beat_baselines false
"""
SCRIPTS = ("main_0_extract_masks", "main_1_mgcl_train", "main_2_mgcl_test")
SHORT = {
    **dict.fromkeys([*SCRIPTS, "mgcl.datasets.check", "mgcl.visualize"], TINY.split()),
    "mgcl.datasets.synthetic": ["--train", "30", "--val", "45"],
}

# Only parsed: a part of the command, and why.
PARSED = {
    "torchrun ": "starts further processes; tests/test_distributed.py does so",
    "mgcl-page/project.toml": "what a user marked; tests/page/test_search.py runs one",
    "mgcl.page ": "serves until Ctrl-C; tests/page/test_page.py drives it in a browser",
    "mgcl.sweep ": "many trainings; tests/test_sweep.py runs a small one",
    "benchmarks.": "measures for minutes",
    "-m tests.": "searches for mistakes for minutes",
    "CACHE_FOLDER": "the authors' pickles; tests/test_masks_convert.py writes some",
    "THEIR_FILE": "the authors' checkpoint; tests/test_checkpoint.py writes one",
    "mgcl.checkpoint export": "only for the authors' backbones; tests/test_checkpoint.py does so",
}
# Other people's programs; what they are given is checked to be there.
LEFT = {
    "make": lambda words: [w for w in words if f"\n{w}:" not in MAKEFILE and "=" not in w],
    "pip": lambda words: [w for w in words if w.endswith(".txt") and not (REPOSITORY / w).exists()],
    "tensorboard": lambda words: [],
}
MAKEFILE = (REPOSITORY / "Makefile").read_text()
# What stands for a user's own name.
PLACES = {
    "NAME": "demo",
    "CONFIG": "configs/demo.toml",
    "FOLDER": "pictures",
    "my_pictures": "pictures",
}
PROGRAMS = ("python", "mgcl", "torchrun", *LEFT)


class Piece(str):
    """A command line, or lines of Python."""

    python = False


def pieces(text: str) -> Iterator[Piece]:
    """Commands and examples of a document, in their order."""
    pattern = r"```(\w*)\n(.*?)```|((?:(?<=\n\n)|(?<=\n))(?: {4}[^\n]*\n)+)"
    for language, fenced, indented in re.findall(pattern, text, re.DOTALL):
        if language == "python":
            piece = Piece(fenced)
            piece.python = True
            yield piece
        elif language in ("", "sh", "bash"):
            for line in re.sub(r"\\\n\s*", "", fenced or indented).splitlines():
                if line.strip().partition(" ")[0] in PROGRAMS:
                    yield Piece(line.strip())


def inline(text: str) -> list[str]:
    """Commands in running text."""
    found = re.findall(r"`((?:python|mgcl|torchrun) [^`]+)`", text)
    return [" ".join(words.replace("...", "").replace("…", "").split()) for words in found]


def program(command: str) -> tuple[str, list[str]]:
    """The module that a command starts, and its words."""
    for place, name in PLACES.items():
        command = re.sub(rf"\b{place}\b", name, command)
    words = shlex.split(command, comments=True)
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, w in enumerate(words) if w.endswith(".py")) :]]
    if words[0] == "mgcl":
        return "mgcl.__main__", words[1:]
    if words[1] == "-m":
        return ("mgcl.__main__" if words[2] == "mgcl" else words[2]), words[3:]
    assert (REPOSITORY / words[1]).exists(), command
    return words[1].removesuffix(".py"), words[2:]


def start(name: str) -> Callable[..., int]:
    """The main function behind `python -m name`."""
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
        (name,) = re.findall(r'console\.run\("(.*)"\)', inspect.getsource(module))
        module = importlib.import_module(name)
    return module.main


class Parsed(Exception):
    """The words were accepted."""


def parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program exists and takes these words (more may be needed); nothing is done."""

    def complain(parser, message):
        raise Parsed if "arguments are required" in message else AssertionError(message)

    def stop_after(function):
        def parsing(*args, **kwargs):
            function(*args, **kwargs)
            raise Parsed

        return parsing

    name, words = program(command)
    if name == "mgcl.__main__":
        assert not words or words[0] in COMMANDS
        return
    main = start(name)
    if name == "mgcl.config":  # as fast as parsing
        assert main(words[: words.index(">")] if ">" in words else words) == 0
        return
    with monkeypatch.context() as patch, pytest.raises(Parsed):
        for module in (config, reading):  # by its face, and by `load_or_exit` beside it
            patch.setattr(module, "load", stop_after(config.load))
        parser = argparse.ArgumentParser
        patch.setattr(parser, "parse_args", stop_after(parser.parse_args))
        patch.setattr(parser, "error", complain)
        patch.setattr(sys, "argv", [name, *words])
        main(*[words] * bool(inspect.signature(main).parameters))


def run(command: str) -> int:
    """Run a command in this process, shortened; returns its exit status."""
    name, words = program(command)
    words = [*SHORT.get(name, []), *words]
    if name == "main_1_mgcl_train" and "--train.resume" not in words:
        shutil.rmtree(config.load(words).run_dir, ignore_errors=True)
    return start(name)(words)


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Path:
    """A checkout after `make demo`, shortened, with the data that the documents name."""
    root = tmp_path_factory.mktemp("box")
    for name in ("configs", "mgcl", "Makefile", *(f"{script}.py" for script in SCRIPTS)):
        (root / name).symlink_to(REPOSITORY / name)
    demo = write_synthetic(root / "data/demo", train_images=30, val_images=45, processes=1)
    (root / "data/isaid").symlink_to(demo)
    (demo / "masks_sam").symlink_to(demo / "masks_superpixels")
    _write_own(root, demo)
    _write_loveda(root / "data/loveda", demo)
    _write_downloads(root / "downloads", demo)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for line in re.findall(r"\t\$\(RUN\) (main_.*) \$\(DEMO\)", MAKEFILE):
            assert run("python " + line.replace("$(CONFIG)", "configs/demo.toml")) == 0
    return root


def _write_own(root: Path, demo: Path) -> None:
    """Pictures with labels of two classes, and the class table of data/README.md."""
    table = re.search(
        r"((?: {4}(?:\d+|#\w{6}) \w+\n)+)", (REPOSITORY / "data/README.md").read_text()
    )
    assert table
    (root / "classes.txt").write_text(re.sub(r"(?m)^ +", "", table[1]))
    for folder in ("pictures", "labels"):
        (root / folder).mkdir()
    for path in sorted(demo.glob("train/images/*.png"))[:40]:
        shutil.copy(path, root / "pictures")
        label = demo / f"train/semantic_png/{path.stem}_instance_color_RGB.png"
        ids = np.array(Image.open(label))
        Image.fromarray((ids > 0) * (1 + ids % 2)).save(root / "labels" / path.name)


def _write_loveda(root: Path, demo: Path) -> None:
    """A tree as the record of docs/extending.md describes it."""
    record = (REPOSITORY / "docs/extending.md").read_text().partition("```json\n")[2]
    root.mkdir()
    (root / "benchmark.json").write_text(record.partition("```")[0])
    for split, folder in (("train", "Train"), ("val", "Val")):
        for number, path in enumerate(sorted(demo.glob(f"{split}/images/*.png"))[:18]):
            tree = root / folder / ("Urban", "Rural")[number % 2]
            for name in ("images_png", "masks_png"):
                (tree / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tree / "images_png" / f"{number}.png")
            ids = np.array(Image.open(path))[..., 0] // 128 + np.uint8(1 + number % 6)
            Image.fromarray(ids.astype(np.uint8)).save(tree / "masks_png" / f"{number}.png")


def _write_downloads(root: Path, demo: Path) -> None:
    """As iSAID, UC Merced and DLRSD come."""
    for split in ("train", "val"):
        for kind in ("images", "semantic_png"):
            target = root / "isaid" / split / kind
            target.mkdir(parents=True)
            for path in sorted(demo.glob(f"{split}/{kind}/*"))[:2]:
                shutil.copy(path, target)
    dlrsd = write_synthetic(
        root / "tree", train_images=20, val_images=10, size=64, processes=1, benchmark="dlrsd"
    )
    for folder, name in (("Images", "UCMerced_LandUse"), ("Labels", "DLRSD")):
        (root / name).mkdir()
        (dlrsd / folder).rename(root / name / folder)


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_commands_and_examples_of_a_document_run(document, box, monkeypatch):
    monkeypatch.chdir(box)
    for piece in pieces(document.read_text()):
        words = piece.split()
        if piece.python:
            exec(compile(piece, document.name, "exec"), {"__name__": "__main__"})  # noqa: S102
        elif words[0] in LEFT:
            assert LEFT[words[0]](shlex.split(piece, comments=True)[1:]) == [], piece
        elif any(part in piece for part in PARSED):
            parse(piece, monkeypatch)
        else:
            assert run(piece) == 0, piece


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_commands_in_running_text_are_understood(document, box, monkeypatch):
    monkeypatch.chdir(box)
    for command in inline(document.read_text()):
        parse(command, monkeypatch)


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_and_pictures_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"https?://", target):
            continue
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", place.read_text())
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]


def test_every_document_is_named_in_the_readme():
    readme = (REPOSITORY / "README.md").read_text()
    others = {_name(path) for path in DOCUMENTS if path.parent.name == "docs"}
    assert {name for name in others if name not in readme} == set()


def test_the_reference_of_constants_is_up_to_date():
    """Else: python -m mgcl.config --markdown > docs/config.md."""
    assert (REPOSITORY / "docs/config.md").read_text() == reference.to_markdown()


def test_what_is_only_parsed_or_left_occurs():
    texts = [path.read_text() for path in DOCUMENTS]
    found = [str(piece) for text in texts for piece in pieces(text) if not piece.python]
    found += [command for text in texts for command in inline(text)]
    for part in PARSED:
        assert [piece for piece in found if part in piece], part
    assert {piece.split()[0] for piece in found} - {"python", "mgcl", "torchrun"} == set(LEFT)
