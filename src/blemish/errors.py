"""Errors for the user: each says what was wrong, what was expected and what to do."""

from typing import Any

from blemish.messages import message


class BlemishError(Exception):
    """Base of every error that blemish raises on purpose; its text is meant for the user.

    Args:
        template: The text in English, with fields as for `str.format`; without values, braces have no meaning.
        values: The fields' values. See `blemish.messages.message`.
    """

    def __init__(self, template: str, /, **values: Any) -> None:
        super().__init__(message(template, **values))


class DataError(BlemishError):
    """A data set, an image, a mask or a csv file is missing, damaged or inconsistent."""


class ModelError(BlemishError):
    """A model folder is missing, damaged, manipulated or from a newer version."""


class WeightsError(BlemishError):
    """Pretrained weights are absent, unreachable or do not match their checksum."""


class MethodError(BlemishError):
    """A method is unknown, got an argument it cannot use, or cannot learn from the given images."""


class NotLearnedError(MethodError):
    """A method was asked to score before it has learned."""


class DivergedError(MethodError):
    """The losses of a training became infinite, NaN or far too large."""


class MissingExtraError(BlemishError):
    """An optional package is not installed; the text names the extra that installs it."""


class BlemishWarning(UserWarning):
    """A problem that the user should know about but that does not stop the work."""
