"""Texts for the user: in the language of the environment, with values that cannot break a line or a terminal.

English templates are the keys of the catalogue `locale/zh/LC_MESSAGES/blemish.po`, which `tools/write_messages.py`
extends and compiles. The first of LANGUAGE, LC_ALL, LC_MESSAGES and LANG that is set chooses the language, as for
every gettext program; of several languages in LANGUAGE, the first counts.
"""

import functools
import gettext
import locale
import os
import string
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from blemish.names import printable

DOMAIN = "blemish"
CATALOGUES = Path(__file__).with_name("locale")
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


_fixed = ContextVar("fixed_language", default="")


class Message(str):
    """A finished text. As a value of another message it is inserted unchanged."""

    __slots__ = ()


def message(template: str, /, **values: Any) -> Message:
    """The template in the user's language with its values filled in.

    Args:
        template: In English, with fields as for `str.format`; without values, braces have no meaning.
        values: Texts, paths and errors are made `printable` (`blemish.names`); other values are formatted as they are.
    """
    text = _translations(_language()).gettext(template) if template else ""  # "" is the catalogue's header
    return Message(_Formatter().vformat(text, (), values) if values else text)


def lines(texts: Iterable[object], indent: str = "") -> Message:
    """Finished texts, such as messages and errors made of them, one on each line."""
    return Message("\n".join(f"{indent}{text}" for text in texts))


def listed(texts: Iterable[str]) -> Message:
    """Words with commas between, and "and" before the last one."""
    *first, last = texts
    return Message(f"{', '.join(first)}{message(' and ')}{last}" if first else last)


def nearest(name: str, names: Iterable[str]) -> Message:
    """The question whether the nearest of some names was meant, in any case, to follow a sentence; else empty."""
    by_lower = {one.lower(): one for one in names}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return message(" Did you mean {close!r}?", close=by_lower[close[0]]) if close else Message()


def columns(text: str) -> int:
    """Columns that a text takes on a terminal."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def pad(text: str, width: int) -> str:
    """The text with spaces up to a number of columns."""
    return text + " " * (width - columns(text))


def translate_program() -> None:
    """Let the texts of click, which asks gettext's global domain, come from the same catalogue.

    On Windows, where these variables are not usually set, the language is that of the user's interface.
    """
    language = _language()
    if sys.platform == "win32" and not language:
        import ctypes

        language = locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
    os.environ["LANGUAGE"] = language  # one language: gettext would take texts from all that are listed
    gettext.bindtextdomain(DOMAIN, CATALOGUES)
    gettext.textdomain(DOMAIN)


@contextmanager
def in_language(language: str) -> Iterator[None]:
    """Give messages in a language, for what cannot show Chinese, or shows both."""
    token = _fixed.set(language)
    try:
        yield
    finally:
        _fixed.reset(token)


def _language() -> str:
    if fixed := _fixed.get():
        return fixed
    values = (os.environ.get(variable, "") for variable in VARIABLES)
    return next((value for value in values if value), "").partition(":")[0]


@functools.cache
def _translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English if there is none."""
    return gettext.translation(DOMAIN, CATALOGUES, [language], fallback=True)


class _Formatter(string.Formatter):
    """`str.format` that makes texts, paths and errors printable; `!r` does so by itself."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion is not None or isinstance(value, Message):
            return super().convert_field(value, conversion)
        if isinstance(value, BaseException) and len(value.args) == 1 and isinstance(value.args[0], Message):
            return value.args[0]
        return printable(str(value)) if isinstance(value, str | os.PathLike | BaseException) else value
