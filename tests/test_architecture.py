"""The arrows between the modules, and what an import may cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_run import REPOSITORY

FILES = sorted([*REPOSITORY.glob("mgcl/**/*.py"), *REPOSITORY.glob("main_*.py")])

# From the top: rooms in one row do not know of each other, and each imports lower rows only.
FLOORS: list[set[str]] = [
    {"mgcl.__main__"},
    {"main_0_extract_masks", "main_1_mgcl_train", "main_2_mgcl_test"},
    {"mgcl.page", "mgcl.sweep"},
    {"mgcl.predict", "mgcl.report", "mgcl.train"},
    {"mgcl.visualize"},
    {"mgcl.build"},
    {"mgcl.engine"},
    {"mgcl.datasets"},
    {"mgcl.masks", "mgcl.model"},
    {"mgcl.config", "mgcl.checkpoint", "mgcl.config_reference"},
    {"mgcl.old_names"},
    {"mgcl.images", "mgcl.console", "mgcl.metrics"},
    {"mgcl.files", "mgcl.device", "mgcl.distributed", "mgcl.workers"},
    {"mgcl"},
]

# What builds from the config; besides, the floors of the programs, from `visualize` up, read it.
BUILDERS = {"mgcl.build", "mgcl.datasets.sets", "mgcl.masks.generator"}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Modules that a file imports, anywhere but for type checkers; `from x import y` as x.y."""
    name, package = module_name(path), path.stem == "__init__"
    found: set[str] = set()
    for node in _seen(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: None if package and node.level == 1 else -node.level]
                base = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def _seen(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes outside `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _seen(child)


def uses(path: Path, *packages: str) -> list[str]:
    return sorted(m for m in imported(path) if any(f"{m}.".startswith(f"{p}.") for p in packages))


def files_of(*parts: str) -> list[Path]:
    return [p for p in FILES if module_name(p).startswith(parts)]


def room(module: str) -> str:
    """The folder or file of `mgcl/` that a module stands in, or the script itself."""
    return ".".join(module.split(".")[:2])


def folder(module: str) -> str:
    """The folder that a module stands in; a file at the top stands for itself."""
    parts = module.split(".")
    return ".".join(parts[:-1]) if len(parts) > 2 else module


def arrows() -> set[tuple[str, str]]:
    """(importing, imported) modules; an import of a name counts as one of its module."""
    names = {module_name(p) for p in FILES}
    found = set()
    for path in FILES:
        for target in imported(path):
            while target not in names and "." in target:
                target = target.rpartition(".")[0]
            if target in names and target != module_name(path):
                found.add((module_name(path), target))
    return found


def circles(pairs: set[tuple[str, str]]) -> list[str]:
    """What imports, even through others, what imports it."""
    below: dict[str, set[str]] = {}
    for upper, lower in pairs:
        below.setdefault(upper, set()).add(lower)

    def reached(start: str) -> set[str]:
        seen, left = set(), [start]
        while left:
            for lower in below.get(left.pop(), ()):
                if lower not in seen:
                    seen.add(lower)
                    left.append(lower)
        return seen

    return sorted(module for module in below if module in reached(module))


def test_arrows_point_down_only_between_the_floors():
    floor = {name: number for number, row in enumerate(FLOORS) for name in row}
    assert {room(module_name(p)) for p in FILES} == set(floor)
    wrong = [
        f"{upper} -> {lower}"
        for upper, lower in sorted(arrows())
        if room(upper) != room(lower) and floor[room(lower)] <= floor[room(upper)]
    ]
    assert wrong == []


def test_nothing_imports_what_imports_it():
    assert circles(arrows()) == []
    rooms = {(room(a), room(b)) for a, b in arrows() if room(a) != room(b)}
    assert circles(rooms) == []
    folders = {(folder(a), folder(b)) for a, b in arrows() if folder(a) != folder(b)}
    assert circles(folders) == []
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == ["a", "b", "c"]


def test_files_of_a_folder_never_import_their_own_face():
    faces = {module_name(p) for p in FILES if p.stem == "__init__"}
    own = [f"{a} -> {b}" for a, b in arrows() if b in faces - {"mgcl"} and a.startswith(f"{b}.")]
    assert own == []


def test_a_folder_of_tests_for_each_room():
    rooms = {p.parent.name for p in FILES if p.parent.parent == REPOSITORY / "mgcl"}
    tests = {p.parent.name for p in REPOSITORY.glob("tests/*/test_*.py")}
    assert tests == rooms


def test_the_house_keeps_its_size():
    lines = {p: len(p.read_text().splitlines()) for p in FILES}
    assert {p.name: n for p, n in lines.items() if n > 340} == {}
    assert len([p for p in FILES if p.parent == REPOSITORY / "mgcl"]) <= 12


def test_only_the_list_of_commands_imports_a_main():
    mains = [p.stem for p in FILES if p.stem.startswith("main_")]
    assert [module_name(p) for p in FILES if uses(p, *mains)] == ["mgcl.__main__"]


def test_only_mains_and_builders_see_the_config():
    programs = {name for row in FLOORS[:5] for name in row} | {"mgcl.config"}
    seeing = {module_name(p) for p in FILES if uses(p, "mgcl.config")}
    started = {module_name(p) for p in FILES if '__name__ == "__main__"' in p.read_text()}
    assert {m for m in seeing if room(m) not in programs} - started - BUILDERS == set()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_nothing_happens_at_import(path):
    body = ast.parse(path.read_text()).body
    calls = [
        ast.unparse(node)
        for node in body
        if isinstance(node, ast.Expr)
        and not isinstance(node.value, ast.Constant)
        or isinstance(node, ast.For | ast.While | ast.With | ast.Delete)
    ]
    assert calls == []


@pytest.mark.parametrize(
    "module", ["mgcl.config", "mgcl.masks", "main_1_mgcl_train", "main_2_mgcl_test"]
)
def test_the_light_modules_import_no_heavy_library(module):
    heavy = "{'torch', 'torchvision', 'cv2', 'skimage', 'matplotlib', 'segment_anything'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


_FREE = {
    *("eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
    *("shelve.open", "yaml.load", "yaml.unsafe_load", "joblib.load", "torch.jit.load"),
}


def test_no_code_evaluates_text_or_unpickles_freely():
    """The mask caches' restricted reader is a subclass of Unpickler; nothing else may read one."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in _FREE:
                    found.append(f"{path.name}: {name}")
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if given.get("shell", given.get("allow_pickle", "False")) != "False":
                    found.append(f"{path.name}: {name} with a shell or pickles")
                safe = any(k.arg == "weights_only" for k in node.keywords)
                if name == "torch.load" and not safe:
                    found.append(f"{path.name}: torch.load without weights_only")
    assert found == []
