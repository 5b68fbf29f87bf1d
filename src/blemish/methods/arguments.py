"""Arguments of methods, each declared once in the class body: name, type, range, default and meaning.

The constructor and its checks, `blemish methods`, the tables of the docs and the JSON schema are derived from the
declaration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, Field, Strict

from blemish.messages import message

NOUNS = {int: "whole number", float: "number"}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a method."""

    default: Any
    meaning: str
    limits: Mapping[str, float]
    """Bounds under pydantic's names (gt, ge, lt, le, multiple_of); for a list, the bounds of its items."""
    shape: Literal["", "odd", "power of two"]
    name: str = ""
    kind: Any = None
    """The annotation: int, float, bool, str, a Literal, a tuple of one of these, or one of these or None."""

    @property
    def fault(self) -> str:
        """Why this declaration cannot work, as words after the argument's name; empty if it can."""
        parts = [part for part in _options(self.kind) if part is not NoneType]
        is_list = get_origin(parts[0]) is tuple and get_args(parts[0])[1:] == (Ellipsis,)
        item = get_args(parts[0])[0] if is_list else parts[0]
        is_plain = not is_list and (item in (bool, str) or get_origin(item) is Literal)
        if len(parts) > 1 or not (item in NOUNS or is_plain):
            return (
                f"is annotated with {self.kind}, but must be int, float, bool, str, a Literal, tuple[int, ...] or "
                "tuple[float, ...], with or without None"
            )
        shapes = bool(self.shape) + ("multiple_of" in self.limits)
        if shapes > 1 or (shapes and item is not int) or (self.limits and is_plain):
            return "has limits that do not fit its type or each other"
        return ""

    @property
    def expected(self) -> str:
        """The values that are accepted, as words that follow "must be"."""
        options = [self._wanted(part) for part in _options(self.kind) if part is not NoneType]
        if NoneType in _options(self.kind):
            return message("{expected} or None", expected=options[0])
        return options[0]

    @property
    def type(self) -> Any:
        """The annotation with the limits, for pydantic; lists are accepted as tuples."""
        checked = [self._checked(part) for part in _options(self.kind)]
        union = checked[0]
        for other in checked[1:]:
            union = union | other
        return union

    def _wanted(self, kind: Any) -> str:
        if kind is bool:
            return message("true or false")
        if kind is str:
            return message("text")
        if get_origin(kind) is Literal:
            return message("one of {values}", values=", ".join(map(repr, get_args(kind))))
        if get_origin(kind) is tuple:
            return message(
                "a list of {noun}s{range}", noun=self._noun(get_args(kind)[0]), range=self._range()
            )
        noun = self._noun(kind)
        return message(
            "an {noun}{range}" if noun[0] in "aeiou" else "a {noun}{range}", noun=noun, range=self._range()
        )

    def _noun(self, kind: Any) -> str:
        if "multiple_of" in self.limits:
            return message("multiple of {number}", number=self.limits["multiple_of"])
        if self.shape:
            return message("odd whole number" if self.shape == "odd" else "power of two")
        return message("whole number" if kind is int else "number")

    def _range(self) -> str:
        low, high = self._bound("ge", "gt", "[("), self._bound("le", "lt", "])")
        if low and high:
            return message(" in {range}", range=f"{low[1]}{low[0]}, {high[0]}{high[1]}")
        if low:
            return message(" from {low}" if low[1] == "[" else " above {low}", low=low[0])
        if high:
            return message(" up to {high}" if high[1] == "]" else " below {high}", high=high[0])
        return ""

    def _bound(self, closed: str, opened: str, signs: str) -> tuple[str, str] | None:
        for name, sign in zip((closed, opened), signs, strict=True):
            if name in self.limits:
                limit = self.limits[name]
                return str(limit) if isinstance(limit, int) else f"{limit:g}", sign
        return None

    def _checked(self, kind: Any) -> Any:
        if get_origin(kind) is tuple:
            items: Any = tuple.__class_getitem__((self._limited(get_args(kind)[0]), ...))
            return Annotated[items, Strict(False), Field(min_length=1)]
        return self._limited(kind)

    def _limited(self, kind: Any) -> Any:
        if kind not in (int, float):
            return kind
        limited = Annotated[kind, Field(**self.limits)]
        return Annotated[limited, AfterValidator(SHAPES[self.shape])] if self.shape else limited


def argument(
    default: Any,
    meaning: str,
    *,
    odd: bool = False,
    power_of_two: bool = False,
    gt: float | None = None,
    ge: float | None = None,
    lt: float | None = None,
    le: float | None = None,
    multiple_of: int | None = None,
) -> Any:
    """Declare an argument in the class body of a method.

    For example: `ratio: float = argument(0.1, "Share that is kept.", gt=0, le=1)`. A subclass changes an inherited
    default by assigning it: `ratio = 0.2`.

    Args:
        default: Value if none is given.
        meaning: One phrase for the docs and the help, with the unit.
        odd: Whether whole numbers must be odd.
        power_of_two: Whether whole numbers must be powers of two.
        gt: Values must be greater.
        ge: Values must be greater or equal.
        lt: Values must be less.
        le: Values must be less or equal.
        multiple_of: Values must be multiples of this.
    """
    limits = {"gt": gt, "ge": ge, "lt": lt, "le": le, "multiple_of": multiple_of}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return Argument(default, meaning, given, "odd" if odd else "power of two" if power_of_two else "")


def _options(kind: Any) -> tuple[Any, ...]:
    """The alternatives of an annotation such as `int | None`; any other annotation is its only one."""
    arguments = get_args(kind)
    return arguments if NoneType in arguments else (kind,)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(message("even"))
    return value


def _power_of_two(value: int) -> int:
    if value < 1 or value & (value - 1):
        raise ValueError(message("no power of two"))
    return value


SHAPES = {"odd": _odd, "power of two": _power_of_two}


def epochs(default: int) -> Any:
    """Declare `epochs` of a method that trains."""
    return argument(default, "Number of passes over the training images.", ge=1, le=100_000)


def steps(default: int) -> Any:
    """Declare `steps`, which limits the training on large data sets."""
    return argument(default, "Maximum number of training steps (0: no limit).", ge=0, le=10_000_000)


def batch_size(default: int) -> Any:
    """Declare `batch_size` of the training."""
    return argument(default, "Number of images per training step.", ge=1, le=4096)


def learning_rate(default: float, optimizer: str = "Adam") -> Any:
    """Declare the initial learning rate of an optimizer with half-cosine decay."""
    return argument(default, f"Initial learning rate of {optimizer} (half-cosine decay to 0).", gt=0, le=10)


def patience(default: int) -> Any:
    """Declare `patience`: early stopping on held-out normal images."""
    return argument(
        default,
        "Epochs without a lower held-out loss before training stops; the weights are those of the lowest (0: neither).",
        ge=0,
        le=100_000,
    )


def backbone(default: str = "compact") -> Any:
    """Declare `backbone` of a method on frozen features."""
    return argument(default, "Name of the frozen backbone; NAME@FILE for its weights in a file.")


def layers(default: tuple[int, ...] = (2, 3)) -> Any:
    """Declare `layers` of the backbone."""
    return argument(default, "Feature maps of the backbone that are used, finest first.", ge=1, le=64)


def patch_size() -> Any:
    """Declare `patch_size` of patch embeddings."""
    return argument(3, "Side of the neighbourhood that is averaged around each cell.", ge=1, le=63, odd=True)


def mean_mapped() -> Any:
    """Declare `mean_mapped` of patch embeddings."""
    return argument(None, "Width that embeddings are averaged to.", ge=1, le=8192)


def sigma() -> Any:
    """Declare `sigma` of the anomaly map's blur."""
    return argument(4.0, "Standard deviation of the anomaly map's blur, in pixels (0: none).", ge=0, le=100)


def images(default: int) -> Any:
    """Declare `images`, which limits the memory of a method that keeps training images."""
    return argument(
        default, "Maximum number of training images that are used, evenly spaced.", ge=1, le=100_000
    )


def size(default: int, *, smallest: int, multiple_of: int | None = None) -> Any:
    """Declare `size` of the images of a reconstruction network: a power of two unless a multiple is named."""
    meaning = "Side of the images that the networks see, in pixels."
    return argument(
        default, meaning, ge=smallest, le=2048, power_of_two=multiple_of is None, multiple_of=multiple_of
    )


def width(default: int) -> Any:
    """Declare `width` of a reconstruction network."""
    return argument(default, "Number of channels of the layers next to the image.", ge=1, le=512)


def code(default: int) -> Any:
    """Declare `code` of an autoencoder or a generator."""
    return argument(default, "Number of values of the latent code.", ge=1, le=16384)


def score(default: str, others: str) -> Any:
    """Declare `score` of a reconstruction method; `others` explains the values beside "pixels"."""
    return argument(default, f"Image score: 'pixels' is the maximum of the anomaly map, {others}.")
