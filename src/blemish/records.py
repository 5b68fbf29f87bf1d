"""What crosses a boundary, such as a file: records that are declared once and checked whoever made them."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

LISTED = 3
"""Wrong entries that an error names; it counts the others."""
LONGEST = 40
"""Characters of a name or value that an error shows."""


class Record(BaseModel):
    """Values of exactly the declared types and ranges, which cannot be changed; finite numbers only.

    In JSON each entry must be there and no other. A field's description completes the sentence "NAME must be …".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        """Raises ValueError, in one sentence."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_sentence(type(self), error)) from None

    # Without this mark pydantic would build records out of JSON by the constructor above, as if from Python.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The opposite of `json.dumps(record.to_dict())`, trusting nothing.

        Raises:
            ValueError: In one sentence, naming the entries that are wrong and what they must be.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ValueError(_sentence(cls, error)) from None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return self.model_dump(mode="json")

    def changed(self, **changes: Any) -> Self:
        """A copy with other values for some fields.

        Raises:
            ValueError: If a value is wrong.
        """
        return type(self)(**{**dict(self), **changes})

    @model_validator(mode="after")
    def _require_all_in_json(self, info: ValidationInfo) -> Self:
        """Defaults are for Python; a file that lacks an entry is damaged."""
        lacking = sorted(type(self).model_fields.keys() - self.model_fields_set)
        if info.mode == "json" and lacking:
            raise ValueError(f"{', '.join(lacking)} must be there")
        return self


def _sentence(record: type[Record], error: ValidationError) -> str:
    """All that is wrong, without pydantic's many lines; once per entry."""
    problems: dict[str, str] = {}
    for item in error.errors(include_url=False):
        path, expected = _located(record, item["loc"])
        problems.setdefault(path, _problem(item, path, expected))
    listed = "; ".join([*problems.values()][:LISTED])
    return f"{listed}; and {len(problems) - LISTED} more." if len(problems) > LISTED else f"{listed}."


def _problem(item: ErrorDetails, path: str, expected: str) -> str:
    kind = item["type"]
    if kind == "json_invalid":
        return f"it is not valid JSON: {item['ctx']['error']}"
    if kind == "extra_forbidden":
        return f"{path} is unknown"
    if kind == "missing" and item["loc"] == tuple(path.split(".")):
        return f"{path} must be there"
    if kind == "value_error" and not expected:  # raised by a record about several of its fields
        return f"{path}: {item['ctx']['error']}" if path else str(item["ctx"]["error"])
    return f"{path or 'it'} must be {expected or 'a JSON object'}, got {item['input']!r:.{LONGEST}}"


def _located(record: type[Record], location: tuple[int | str, ...]) -> tuple[str, str]:
    """The dotted name of the field that a location lies in, and its description; none for a record itself."""
    names: list[str] = []
    expected = ""
    inner: Any = record
    for part in location:
        if not (isinstance(inner, type) and issubclass(inner, Record)):
            break
        field = inner.model_fields.get(str(part))
        name = str(part)
        names.append(name if name.isidentifier() and len(name) <= LONGEST else f"{name!r:.{LONGEST}}")
        expected, inner = (field.description or "", field.annotation) if field else ("", None)
    return ".".join(names), expected
