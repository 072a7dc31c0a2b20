"""The command `mgcl`, what programs say, and their exit statuses."""

import os
import subprocess
import sys
import tomllib

import pytest

from mgcl import __version__, console
from mgcl.__main__ import COMMANDS, STATUSES, find, main
from mgcl.config import load, load_or_exit
from mgcl.old_names import MODULES
from tests.small_run import REPOSITORY
from tests.test_architecture import FILES, module_name


def test_every_program_is_a_command_and_every_command_a_program():
    programs = {module_name(p) for p in FILES if '__name__ == "__main__"' in p.read_text()}
    started = {name.removesuffix(".__main__") for name in programs - {"mgcl.__main__", *MODULES}}
    mains = {find(name).__module__ for name in COMMANDS}
    assert started == {name.removesuffix(".command").removesuffix(".reference") for name in mains}


def test_without_words_the_commands_are_listed_with_a_line_each(capsys):
    assert main([]) == main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert f"  {name:14} {text}\n" in said
    assert all(f"  {number:<4} {text}" in said for number, text in STATUSES.items())
    assert max(map(len, said.splitlines())) <= 100


def test_a_command_hands_its_words_on_and_its_status_back(tmp_path, capsys):
    words = ["--to", str(tmp_path), "--train", "1", "--val", "1", "--size", "32", "--quiet"]
    assert main(["synthetic", *words]) == console.DONE
    assert (tmp_path / "splits").is_dir() and capsys.readouterr().out == ""
    assert main(["masks", "show", str(tmp_path / "none")]) == console.WRONG


@pytest.mark.parametrize(
    "words, said",
    [(["swep"], "do you mean 'sweep'?"), (["mask", "show"], "do you mean 'masks show'?")]
    + [(["x"], "mgcl --help lists them")],
)
def test_an_unknown_command_is_named_with_the_nearest(capsys, words, said):
    assert main(words) == console.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, path",
    [
        ("check --data.root nowhere", "nowhere"),
        ("test --test.checkpoint lost.pt", "lost.pt"),
        ("prepare own --images . --labels . --classes lost.txt --to o", "lost.txt"),
        ("predict --support lost.png l.png --query lost --to o", "lost"),
        ("visualize --episode 0 --checkpoint lost.pt", "lost.pt"),
        ("masks show lost", "lost"),
        ("checkpoint export lost.pt --to o.pt", "lost.pt"),
    ],
)
def test_what_was_not_found_is_named_by_its_whole_path(tmp_path, monkeypatch, capsys, words, path):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) in (console.WRONG, console.USAGE)
    assert str(tmp_path / path) in capsys.readouterr().err


def test_the_version_is_told_and_nothing_heavy_imported():
    code = "import sys, mgcl.__main__ as m; m.main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("torch", "numpy", "pydantic", "tqdm"):
        assert f"'{heavy}'" not in done.stdout
    words = [sys.executable, "-m", "mgcl", "--version"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == f"mgcl {__version__}\n"


def test_the_package_takes_all_its_folders_and_scripts():
    built = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    setuptools = built["tool"]["setuptools"]
    folders = {p.parent for p in REPOSITORY.glob("mgcl/**/*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
    names = {".".join(folder.relative_to(REPOSITORY).parts) for folder in folders}
    assert set(setuptools["packages"]) == names | {"mgcl.presets"}
    assert setuptools["package-dir"] == {"mgcl.presets": "configs"}
    assert set(setuptools["py-modules"]) == {path.stem for path in REPOSITORY.glob("main_*.py")}
    assert setuptools["dynamic"]["version"] == {"attr": "mgcl.__version__"}


def test_colours_are_on_a_terminal_only_and_no_color_takes_them_away(monkeypatch, capsys):
    console.fail("bad")
    assert capsys.readouterr().err == "error: bad\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.warn("odd")
    assert capsys.readouterr().err == "\033[33mwarning:\033[0m odd\n"
    monkeypatch.setenv("NO_COLOR", "1")
    console.warn("odd")
    assert capsys.readouterr().err == "warning: odd\n"


def test_progress_leaves_nothing_in_a_log(tmp_path):
    code = "from mgcl.console import progress; print(sum(progress(range(9))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("36\n", "")


def test_every_progress_bar_is_a_quiet_one():
    users = [module_name(p) for p in FILES if "import tqdm" in p.read_text()]
    assert users == ["mgcl.console"]


def test_quiet_is_a_short_form_and_silences_words_alone(capsys):
    config = ["--config", str(REPOSITORY / "configs/demo.toml")]
    assert load([*config, "--quiet"]) == load([*config, "--run.quiet", "true"])
    try:
        load_or_exit([*config, "--quiet"])
        console.say("heard")
        console.warn("odd")
    finally:
        load_or_exit(config)
    console.say("again")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("again\n", "warning: odd\n")
    assert "TQDM_DISABLE" not in os.environ


@pytest.mark.parametrize("name", MODULES)
def test_a_command_that_was_moved_says_where_it_is(name):
    words = [sys.executable, "-m", name, "some", "words"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == console.USAGE
    assert done.stderr == f"error: this command has moved: python -m {MODULES[name]}\n"


@pytest.mark.parametrize(
    "words, called",
    [
        (["-m", "mgcl", "train"], "python -m mgcl train"),
        (["main_1_mgcl_train.py"], "python main_1_mgcl_train.py"),
        (["-m", "mgcl", "config"], "python -m mgcl config"),
        (["-m", "mgcl.config"], "python -m mgcl.config"),
    ],
)
def test_usage_says_how_the_program_was_called(words, called):
    line = [sys.executable, *words, "--help"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {called} [")


INTERRUPTING = """import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background
os.kill(os.getpid(), signal.SIGINT)
raise AssertionError
"""
SCRIPTS = ["main_0_extract_masks.py", "main_1_mgcl_train.py", "main_2_mgcl_test.py"]
PROGRAMS = [["-m", f"mgcl.{name}"] for name in (
    "datasets.synthetic", "datasets.prepare", "datasets.check", "visualize", "sweep", "config",
    "masks.convert", "visualize.masks", "checkpoint")]  # fmt: skip
PROGRAMS += [
    ["-m", "mgcl", "check"],
    ["-m", "mgcl.predict", "--supports", "a", "--query", "b", "--to", "c"],
]


def test_ctrl_c_while_libraries_are_imported_is_one_line_in_every_program(tmp_path):
    for library in ("torch", "numpy", "pydantic"):
        (tmp_path / f"{library}.py").write_text(INTERRUPTING)
    where = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for words in [[script] for script in SCRIPTS] + PROGRAMS:
        line = [sys.executable, *words]
        done = subprocess.run(line, cwd=REPOSITORY, env=where, capture_output=True, text=True)
        assert done.stdout in ("", "loading the network\n"), words
        assert done.returncode == console.INTERRUPTED, words
        assert done.stderr == "error: interrupted\n", words
