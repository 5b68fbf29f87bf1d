"""The layers of the package, proved on the source: who may import whom, no cycles, heavy packages in their places."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import blemish

LAYERS = [  # low to high; a module imports from lower layers and from its own package, never sideways
    ["names"],
    ["messages"],
    ["types", "errors", "files", "records", "reasons"],
    ["opencv"],
    ["data", "features", "blocks", "metrics", "progress", "distributed"],
    ["calibration", "camera", "regions"],
    ["rules"],
    ["inspection"],
    ["methods", "manifest_upgrade", "manifest_description", "demo"],
    ["plugins", "manifest"],
    ["training", "runtimes", "model_folder"],
    ["scoring"],
    ["image_inputs"],
    ["model", "model_settings", "reports"],
    ["workflow", "testing"],
    ["benchmark"],
    ["station"],
    ["cli"],
    ["__main__"],
]
MAY_IMPORT_TORCH = (
    "features",
    "blocks",
    "methods",
    "training",
    "runtimes.torch",
    "runtimes.export",
    "testing",
)

ROOT = Path(blemish.__file__).parent
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text("utf-8")
    )
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"  # all its imports are lazy; test_public_names.py is about them
}


def imports_of(node: ast.AST, *, lazy: bool) -> Iterator[str]:
    """Absolute names of what is imported, except for type checkers; with `lazy`, inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        ):
            continue
        elif lazy or not isinstance(child, ast.FunctionDef):
            yield from imports_of(child, lazy=lazy)


def own_modules(name: str, *, lazy: bool) -> set[str]:
    """The modules of blemish that a module imports."""
    targets = (
        t.removeprefix("blemish.") for t in imports_of(MODULES[name], lazy=lazy) if t.startswith("blemish.")
    )
    return {target if target in MODULES else target.rpartition(".")[0] for target in targets}


def test_modules_import_only_from_lower_layers() -> None:
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        for target in own_modules(name, lazy=True)
        if (here := name.split(".")[0]) != (there := target.split(".")[0]) and HEIGHT[there] >= HEIGHT[here]
    ]
    assert wrong == []


def test_no_import_cycles() -> None:
    TopologicalSorter({name: own_modules(name, lazy=False) - {name} for name in MODULES}).prepare()


def importers(package: str) -> set[str]:
    """The modules of blemish that import a package, inside functions too."""
    return {
        name for name in MODULES for i in imports_of(MODULES[name], lazy=True) if i.split(".")[0] == package
    }


def test_torch_is_imported_only_where_it_belongs() -> None:
    found = importers("torch")
    assert {
        name for name in found if not f"{name}.".startswith(tuple(f"{m}." for m in MAY_IMPORT_TORCH))
    } == set()
    assert "training.loop" in found  # the search itself works


def test_numba_is_imported_in_one_module_only() -> None:
    assert importers("numba") == {"blocks.compiled"}
