"""The arrows between the modules, and what an import may cost."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_run import REPOSITORY

FILES = sorted([*REPOSITORY.glob("mgcl/**/*.py"), *REPOSITORY.glob("main_*.py")])

# What builds from the config; besides, programs (with a `__main__` block) may read it.
BUILDERS = {
    *(
        "mgcl.build",
        "mgcl.config",
        "mgcl.datasets.build",
        "mgcl.findings",
        "mgcl.pictures",
        "mgcl.training",
        "mgcl.testing",
        "mgcl.sweep_jobs",
    )
}


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


def test_the_model_knows_neither_data_nor_masks_nor_config():
    upper = ("mgcl.datasets", "mgcl.masks", "mgcl.config", "mgcl.engine", "mgcl.training")
    assert {p.name: uses(p, *upper) for p in files_of("mgcl.model") if uses(p, *upper)} == {}


def test_data_and_masks_know_nothing_of_model_and_training():
    upper = ("mgcl.model", "mgcl.engine", "mgcl.training", "mgcl.testing", "mgcl.optim")
    lower = files_of("mgcl.datasets", "mgcl.masks", "mgcl.metrics", "mgcl.files", "mgcl.config")
    assert {p.name: uses(p, *upper) for p in lower if uses(p, *upper)} == {}


def test_masks_know_nothing_of_the_benchmarks():
    assert {p.name: uses(p, "mgcl.datasets") for p in files_of("mgcl.masks")} == {
        p.name: [] for p in files_of("mgcl.masks")
    }


def test_no_module_imports_a_main():
    mains = [p.stem for p in FILES if p.stem.startswith("main_")]
    assert [p.name for p in FILES if uses(p, *mains)] == []


def test_only_mains_and_builders_see_the_config():
    programs = {module_name(p) for p in FILES if '__name__ == "__main__"' in p.read_text()}
    seeing = {module_name(p) for p in FILES if uses(p, "mgcl.config")}
    assert seeing - programs - BUILDERS == set()
    assert {"mgcl.engine", "mgcl.metrics", "mgcl.optim", "mgcl.checkpoint"} & seeing == set()


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
                if any(k.arg in ("shell", "allow_pickle") for k in node.keywords):
                    found.append(f"{path.name}: {name} with a shell or pickles")
                safe = any(k.arg == "weights_only" for k in node.keywords)
                if name == "torch.load" and not safe:
                    found.append(f"{path.name}: torch.load without weights_only")
    assert found == []
