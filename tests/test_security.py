"""What the program never does: run what a file says, read pickles, start a shell."""

import ast
from collections.abc import Iterator

import pytest

from tests.small_run import REPOSITORY

FILES = sorted([*REPOSITORY.glob("mgcl/**/*.py"), *REPOSITORY.glob("main_*.py")])
NEVER = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
NEVER |= {"pickle.load", "pickle.loads", "torch.hub.load", "importlib.import_module"}
PICKLED = {"torch.load": "weights_only", "numpy.load": "allow_pickle", "np.load": "allow_pickle"}
SAFE = {"weights_only": True, "allow_pickle": False}
RESTRICTED = {"mgcl/masks/convert.py"}  # its unpickler admits named types only


def calls(path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a file with the name of what is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def constant(call: ast.Call, name: str) -> object:
    """Value of a keyword, if it is written there as it is."""
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value
    return None


def complaints(path) -> list[str]:
    found = []
    for name, call in calls(path):
        place = f"{path.name}:{call.lineno}: {name}"
        option = PICKLED.get(name)
        if name in NEVER or constant(call, "shell") is True:
            found.append(place)
        if option and constant(call, option) is not SAFE[option]:
            found.append(f"{place} without {option}={SAFE[option]}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_runs_what_it_reads(path):
    assert complaints(path) == []


def test_pickles_are_read_by_the_restricted_reader_alone():
    readers = {
        str(path.relative_to(REPOSITORY))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "pickle" in {getattr(node, "module", None), *(alias.name for alias in node.names)}
    }
    assert readers <= RESTRICTED


def test_the_scan_finds_what_it_looks_for(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("torch.load(p)\ntorch.load(p, weights_only=False)\neval('1')\n")
    assert len(complaints(bad)) == 3
    bad.write_text("run(x, shell=True)\nnp.load(p)\npickle.loads(b'')\nos.system('ls')\n")
    assert len(complaints(bad)) == 4
    bad.write_text("torch.load(p, weights_only=True)\nmodel.eval()\nre.compile('a')\n")
    assert complaints(bad) == []
