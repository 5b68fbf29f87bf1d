import ast
import runpy

import pytest

from blemish.testing import check_method
from markdown_text import ROOT, code_blocks, markdown_files, read


def scripts() -> dict[str, str]:
    """Page or example → its python code; of those with the same code only the first."""
    found: dict[str, tuple[str, str]] = {}
    for path in [*markdown_files(), *sorted((ROOT / "examples").glob("*.py"))]:
        text = path.read_text("utf-8")
        script = text if path.suffix == ".py" else "\n".join(code_blocks(text, "python"))
        statements = ast.parse(script).body
        if ast.get_docstring(ast.Module(statements, [])):
            statements = statements[1:]
        if statements:
            same = ast.dump(ast.Module(statements, []))
            found.setdefault(same, (path.relative_to(ROOT).as_posix(), script))
    return dict(found.values())


SCRIPTS = scripts()


def test_there_are_snippets() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/quick-start.md", "examples/own_method.py"} <= SCRIPTS.keys()
    assert len(SCRIPTS) >= 12


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.usefixtures("in_the_world_of_the_docs")
def test_snippets_and_examples_run(name: str) -> None:
    exec(compile(SCRIPTS[name], name, "exec"), {"__name__": "__main__"})


def test_the_method_of_the_example_keeps_the_contract() -> None:
    check_method(runpy.run_path(str(ROOT / "examples" / "own_method.py"))["MeanImage"])


def test_the_readme_shows_the_first_example() -> None:
    code = read("examples/first_model.py").partition("# ruff: noqa: T201\n\n")[2]
    assert code_blocks(read("README.md"), "python") == [code]
    assert sum(bool(line.strip()) for line in code.splitlines()) == 15
