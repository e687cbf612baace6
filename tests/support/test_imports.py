"""Rules for imports between tests."""

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _imported(source: str) -> set[str]:
    """Returns the dotted names of all modules that a source may import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _test_modules(names: set[str]) -> list[str]:
    """Returns the names that are modules with tests."""
    paths = {name: _ROOT / (name.replace(".", "/") + ".py") for name in names if name.startswith("tests.")}
    return sorted(name for name, path in paths.items() if path.name.startswith("test_") and path.exists())


def test_no_test_module_is_imported() -> None:
    """Reads the imports of every Python file in tests/.

    A failure names a file that imports a test module. Move the shared code to tests/support: pytest rewrites and runs
    test modules by itself, and a change of one test must not break another.
    """
    found = {
        path.relative_to(_ROOT).as_posix(): modules
        for path in (_ROOT / "tests").rglob("*.py")
        if (modules := _test_modules(_imported(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "from tests.support.test_imports import _imported",
        "from tests.support import test_imports",
        "import tests.support.test_imports",
    ],
)
def test_every_form_of_import_is_found(source: str) -> None:
    """Checks the check: each form of import of this module is found."""
    assert _test_modules(_imported(source)) == ["tests.support.test_imports"]
