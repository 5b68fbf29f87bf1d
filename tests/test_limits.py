"""The limits of size that CONTRIBUTING.md states, counted as it says."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES, MAX_CODE_LINES = 300, 40
FILES = sorted(
    path
    for folder in ("src", "tests", "tools", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
)
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> dict[str, int]:
    """Lines with code in the body of each function, nested functions included, docstrings not."""
    code = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NOT_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    for function in functions:
        code.difference_update(docstring_lines(function))
    return {
        f"{function.name}, line {function.lineno}": sum(
            function.body[0].lineno <= line <= (function.end_lineno or 0) for line in code
        )
        for function in functions
    }


def docstring_lines(function: Function) -> Iterator[int]:
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        yield from range(first.lineno, (first.end_lineno or 0) + 1)


def test_code_lines_are_those_of_the_body_without_docstrings_comments_and_blank_lines() -> None:
    source = '''
def one(
    a: int,
) -> int:
    """Two lines
    of docstring."""
    # a comment

    b = [
        a,  # another
    ]

    def nested() -> None:
        """Docstring."""
        print("""two
        lines""")

    return nested() or 1
'''
    assert code_lines(source) == {"one, line 2": 7, "nested, line 13": 2}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_within_the_limits(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    assert {name: count for name, count in code_lines(source).items() if count > MAX_CODE_LINES} == {}


def test_contributing_states_these_limits() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text("utf-8").split())
    assert f"Files up to {MAX_LINES} lines, functions up to {MAX_CODE_LINES}" in text
