"""File names as text that JSON can hold and a terminal can show."""

import os
import re
import unicodedata
from pathlib import PurePath

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control and format characters, surrogates, separators of lines and paragraphs."""
_UNDECODED = range(0xDC80, 0xDD00)
"""What Python makes of bytes 0x80 to 0xff that are not UTF-8."""


def printable(name: PurePath | str) -> str:
    r"""A path, or a name from one, in one line of valid Unicode; different for different names.

    A byte that is not UTF-8 becomes \xNN, another character that cannot be printed \uNNNN or \UNNNNNNNN. A
    backslash is doubled, except where it separates folders (Windows). All other characters stay as they are.
    """
    text = str(name)
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return re.sub(r"[^ -\[\]-~]", lambda match: _escaped(match[0]), text)


def _escaped(character: str) -> str:
    if character == "\\":
        return character if os.sep == "\\" else "\\\\"
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    if code in _UNDECODED:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
