"""File names as text: one line, valid Unicode, and the name can be told from it."""

import json
import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.names import printable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a backslash separates folders there")


def name_of(text: str) -> str:
    """The name that a printable text stands for, from the description of the escapes alone."""

    def original(match: re.Match[str]) -> str:
        if match[1]:
            return bytes.fromhex(match[1]).decode("ascii", "surrogateescape")
        return "\\" if match[0] == "\\\\" else chr(int(match[2] or match[3], 16))

    return re.sub(r"\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))", original, text)


@given(
    st.one_of(
        st.binary(max_size=30).map(os.fsdecode),
        st.text(st.characters(exclude_categories=[]), max_size=20),
        st.text(st.sampled_from("\\xuU0189abdc\n\x1b\udc85\x85"), max_size=20),
    )
)
def test_printable_text_is_one_line_of_unicode_and_lossless(name: str) -> None:
    text = printable(name)
    assert name_of(text) == name
    assert json.loads(json.dumps(text, ensure_ascii=False).encode()) == text
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(text.splitlines()) <= 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a/b c.png", "a/b c.png"),
        ("良品/图 1.png", "良品/图 1.png"),
        ("é\u3000ü.png", "é\u3000ü.png"),
        ("a\nNG 9.9 b.png", "a\\u000aNG 9.9 b.png"),
        ("\x1b[31mred.png", "\\u001b[31mred.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\\b", "a\\\\b"),
        (os.fsdecode("正常".encode("gbk")), "\\xd5\\xfd\\xb3\\xa3"),
        ("\ud800\U000e0001", "\\ud800\\U000e0001"),
    ],
)
def test_examples(name: str, text: str) -> None:
    assert printable(name) == printable(Path(name)) == text
