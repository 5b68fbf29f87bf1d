"""Texts for the user: their language, and values that cannot break a line or a terminal."""

from pathlib import Path

import pytest

from blemish.errors import DataError
from blemish.messages import VARIABLES, in_language, message


@pytest.fixture(autouse=True)
def no_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "Show this message and exit."),
        ({"LANG": "C.UTF-8"}, "Show this message and exit."),
        ({"LANG": "fr_FR.UTF-8"}, "Show this message and exit."),
        ({"LANG": "zh_CN.UTF-8"}, "显示本说明并退出。"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN"}, "显示本说明并退出。"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en"}, "Show this message and exit."),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en_US:zh_CN"}, "Show this message and exit."),
    ],
)
def test_environment_chooses_language(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert message("Show this message and exit.") == expected


def test_values_are_formatted_and_made_printable() -> None:
    text = message("{path} has {share:.1%} of {name!r}.", path=Path("a\nb\x1b[31m"), share=0.125, name="x\n")
    assert text == r"a\u000ab\u001b[31m has 12.5% of 'x\n'."


def test_braces_without_values_have_no_meaning() -> None:
    assert str(DataError("{a} {")) == "{a} {"


def test_message_and_error_within_message_keep_their_line_ends() -> None:
    inner = DataError("2 images:\n  {path}", path="a\nb")
    assert (
        message("{inner} and {other}", inner=inner, other=message("x\ny"))
        == "2 images:\n  a\\u000ab and x\ny"
    )


def test_other_error_within_message_is_made_printable() -> None:
    assert message("{error}", error=ValueError("a\nb")) == "a\\u000ab"


def test_english_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    with in_language("en"):
        assert message("Show this message and exit.") == "Show this message and exit."
    assert message("Show this message and exit.") == "显示本说明并退出。"
