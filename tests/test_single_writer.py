"""Only the module `files` renames files or makes temporary ones."""

import ast

import pytest

from test_layers import MODULES

RENAMING = {"os.replace", "os.rename", "os.renames", "shutil.move"}
OWN_ASIDE = {"os.fsync", "os.fdopen", "tempfile.mkstemp", "tempfile.mkdtemp", "tempfile.NamedTemporaryFile"}


def own_writing(tree: ast.AST) -> list[str]:
    """Calls that rename files or make temporary ones under a name, in the order of the source."""
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            calls += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else "…"
            # str.replace has two arguments, dataclasses.replace one and keywords, Path.replace one and none.
            of_path = node.func.attr == "rename" or (
                node.func.attr == "replace" and len(node.args) == 1 and not node.keywords
            )
            calls.append("Path.replace" if of_path else f"{owner}.{node.func.attr}")
    return [call for call in calls if call in RENAMING | OWN_ASIDE | {"Path.replace"}]


def test_no_other_module_writes_aside_or_renames() -> None:
    assert {name for name, tree in MODULES.items() if own_writing(tree)} == {"files"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("os.replace(a, b)", ["os.replace"]),
        ("Path(a).replace(b)", ["Path.replace"]),
        ("a.parent.rename(b)", ["Path.replace"]),
        ("from os import replace", ["os.replace"]),
        ("tempfile.mkdtemp(dir=a)", ["tempfile.mkdtemp"]),
        ("from tempfile import mkstemp", ["tempfile.mkstemp"]),
        ("'a'.replace('b', 'c')", []),
        ("dataclasses.replace(a, b=1)", []),
        ("replace(a, b=1)", []),
        ("tempfile.TemporaryFile()", []),
    ],
)
def test_the_search_tells_paths_from_texts_and_records(source: str, expected: list[str]) -> None:
    assert own_writing(ast.parse(source)) == expected
