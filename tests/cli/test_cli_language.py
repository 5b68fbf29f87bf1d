"""The commands' help in Chinese, wrapped by columns."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.cli.wide_text import wrap
from blemish.messages import VARIABLES, columns, pad


def run(*arguments: str, language: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = kept | {"LANG": language, "PYTHONUTF8": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "blemish", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)


@pytest.mark.parametrize("command", [["--help"], ["fit", "--help"], ["update", "--help"]])
def test_help_in_chinese_fits_the_terminal(command: list[str]) -> None:
    shown = run(*command, language="zh_CN.UTF-8").stdout
    assert shown.startswith("用法：")
    assert [line for line in shown.partition("--help ")[0].splitlines() if columns(line) > 80] == []


def test_facts_and_metrics_have_chinese_names() -> None:
    shown = run("doctor", language="zh_CN.UTF-8").stdout
    names = {line.split()[0] for line in shown.splitlines() if line}
    assert {"计算机", "依赖", "线程", "临时文件夹", "权重"} <= names
    assert "必填" in run("fit", "--help", language="zh_CN.UTF-8").stdout


def test_click_speaks_the_same_language() -> None:
    assert "错误：" in run("fit", language="zh_CN.UTF-8").stderr
    assert "Error: Missing argument 'METHOD'." in run("fit", language="en_US.UTF-8").stderr


@given(st.text(st.sampled_from("ab 中文，。（）\n"), max_size=60), st.integers(8, 30))
def test_wrapped_lines_are_short_and_complete(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    for line in lines:
        longest_piece = max((columns(word) for word in line.split()), default=0)
        assert columns(line) <= width or " " not in line.strip() or longest_piece > width


def test_chinese_marks_do_not_begin_a_line() -> None:
    assert wrap("把阈值（像素）设为零，再试。", 12) == ["把阈值（像", "素）设为零，", "再试。"]


def test_pad_counts_columns() -> None:
    assert pad("阈值", 6) == "阈值  "
