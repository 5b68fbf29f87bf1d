"""The catalogue of Chinese texts: complete, compiled, with the fields of the English ones and Chinese punctuation."""

import re
import string

import pytest
from babel.messages.catalog import Message

from blemish.messages import CATALOGUES
from tools import write_messages

CATALOGUE = write_messages.current()
TEXTS = [one for one in CATALOGUE if one.id]
WIDE = r"[\u3400-\u9fff]"


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_files_follow_from_the_source() -> None:
    wrong = [path.name for path, content in write_messages.files(CATALOGUE) if path.read_bytes() != content]
    assert wrong == [], "run python tools/write_messages.py"


def test_every_text_is_translated() -> None:
    assert [one.id for one in TEXTS if not one.string] == []


@pytest.mark.parametrize("one", TEXTS, ids=lambda one: str(one.id)[:60])
def test_translation_has_the_fields_and_the_punctuation(one: Message) -> None:
    english = one.id if isinstance(one.id, tuple | list) else (one.id,)
    chinese = (one.string if isinstance(one.string, str) else one.string[0]) if one.string else ""
    if "{" in english[0]:
        assert fields(chinese) in [fields(text) for text in english]
    assert re.findall(rf"{WIDE}[,;:?!()]|[,;:?!()]{WIDE}", chinese) == []


def test_no_other_language_is_begun() -> None:
    assert [path.name for path in CATALOGUES.iterdir()] == ["zh"]
