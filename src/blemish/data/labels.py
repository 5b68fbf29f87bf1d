"""The words for normal images and for defects, in names of folders and in csv files, whatever their case."""

import unicodedata

NORMAL_WORDS = ("good", "ok", "normal", "良品", "合格", "正常")
NORMAL_WORDS_LISTED = f"{', '.join(NORMAL_WORDS[:-1])} or {NORMAL_WORDS[-1]}"
"""For sentences that say what to name a folder or a label."""
DEFECT_WORDS = (
    *("ng", "ko", "bad", "defect", "defective", "anomaly", "anomalous", "abnormal"),
    *("不良", "不良品", "不合格", "异常", "缺陷", "次品"),
)
"""Words for a defect that has no name of its own."""
_UNCLEAR_WORDS = frozenset({"yes", "no", "y", "n", "t", "f", "none", "null", "na", "n/a"})


def is_normal_word(text: str) -> bool:
    """Whether a word, such as the name of a folder, means normal images."""
    return plain_word(text) in NORMAL_WORDS


def is_defect_word(text: str) -> bool:
    """Whether a word means defects without a name of their own."""
    return plain_word(text) in DEFECT_WORDS


def plain_word(text: str) -> str:
    """The text in lower case and half-width letters, without spaces around it."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def parse_label(text: str) -> tuple[int, str] | None:
    """Label and defect type that a text stands for; None if it does not say whether the image is normal.

    0 and false are normal, 1 and true a defect without a name; other numbers, and words such as yes, say nothing.
    """
    word = {"true": "1", "false": "0"}.get(plain_word(text), plain_word(text))
    try:
        number = float(word)
    except ValueError:
        if word in _UNCLEAR_WORDS:
            return None
        if word in NORMAL_WORDS:
            return 0, "good"
        return 1, "defect" if word in DEFECT_WORDS else text.strip()
    return {0.0: (0, "good"), 1.0: (1, "defect")}.get(number)
