"""Records read from files or made by users: their fields are declared once and always checked."""

from typing import Any, NoReturn, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from blemish.messages import Message, message

MAX_LISTED = 3
"""Maximum number of wrong fields that an error names; it counts the others."""
MAX_LENGTH = 40
"""Maximum number of characters of a name or value in an error."""


class Record(BaseModel):
    """Immutable values of exactly the declared types and ranges; numbers are finite.

    JSON must hold every field and no other. A field's description completes the sentence "NAME must be …".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        """Check all values.

        Raises:
            ValueError: If a value is wrong; one sentence that names the fields and what they must be.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_sentence(type(self), error)) from None

    # Without this mark pydantic would build records out of JSON by the constructor above, as if from Python.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `json.dumps(record.to_dict())` wrote; everything is checked.

        Raises:
            ValueError: If a field is missing, unknown or wrong; one sentence that names them and what they must be.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(_sentence(cls, error)) from None

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        return self.model_dump(mode="json")

    def changed(self, **changes: Any) -> Self:
        """A copy with other values for some fields.

        Raises:
            ValueError: If a value is wrong.
        """
        return type(self)(**{**dict(self), **changes})

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse to change a field."""
        raise AttributeError(
            f"{type(self).__name__} cannot be changed. Make a copy with another value: changed({name}=…)."
        )

    @model_validator(mode="after")
    def _require_all_in_json(self, info: ValidationInfo) -> Self:
        """Require every field in JSON: defaults are for Python only, a file that lacks a field is damaged."""
        lacking = sorted(type(self).model_fields.keys() - self.model_fields_set)
        if info.mode == "json" and lacking and not isinstance(self, UserRecord):
            names = ", ".join(lacking)
            raise ValueError(
                message("{name} is missing" if len(lacking) == 1 else "{name} are missing", name=names)
            )
        return self


class UserRecord(Record):
    """A record that users write: what has a default may be left out."""


def problems_of(record: type[Record], error: ValidationError) -> dict[str, str]:
    """What is wrong with each field, by its name, such as `rules[2].major`; the text begins with this name."""
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False):
        path, expected, is_whole = _located(record, item["loc"])
        problems.setdefault(path, _problem(item, path, expected, is_whole))
    return problems


def _sentence(record: type[Record], error: ValidationError) -> str:
    """Pydantic's error in one sentence, with one problem per field."""
    problems = problems_of(record, error)
    listed = Message("; ".join([*problems.values()][:MAX_LISTED]))
    if len(problems) > MAX_LISTED:
        return message("{problems}; and {others} more.", problems=listed, others=len(problems) - MAX_LISTED)
    return message("{problems}.", problems=listed)


def _problem(item: ErrorDetails, path: str, expected: str, is_whole: bool) -> str:
    kind = item["type"]
    if kind == "json_invalid":
        return message("it is not valid JSON: {error}", error=item["ctx"]["error"])
    if kind == "extra_forbidden":
        return message("{name} is unknown", name=path)
    if kind == "missing" and is_whole:
        return message("{name} is missing", name=path)
    if kind == "value_error" and not expected:  # raised by a record's own check of several fields
        error = item["ctx"]["error"]
        return message("{name}: {error}", name=path, error=error) if path else message("{error}", error=error)
    return message(
        "{name} must be {expected}, got {value}",
        name=path or message("it"),
        expected=message(expected) if expected else message("a JSON object"),
        value=Message(f"{item['input']!r:.{MAX_LENGTH}}"),
    )


def _located(record: type[Record], location: tuple[int | str, ...]) -> tuple[str, str, bool]:
    """The name of the field that a location lies in, such as `rules[2].major`, its description, and if it is the field.

    A record itself has no description.
    """
    name, expected = "", ""
    inner: Any = record
    for part in location:
        inner = _record_in(inner)
        if inner is None:
            return Message(name), expected, False
        if isinstance(part, int):
            name, expected = f"{name}[{part}]", ""
            continue
        key = part if part.isidentifier() and len(part) <= MAX_LENGTH else f"{part!r:.{MAX_LENGTH}}"
        name = f"{name}.{key}" if name else key
        field = inner.model_fields.get(part)
        expected, inner = (field.description or "", field.annotation) if field else ("", None)
    return Message(name), expected, True


def _record_in(annotation: Any) -> type[Record] | None:
    """The record that a field's type is or names, as `tuple[Rule, ...]` and `Rule | None` do."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return annotation
    return next(filter(None, map(_record_in, get_args(annotation))), None)
