"""Why an image has its verdict: a stable code, and a text in either language."""

from collections.abc import Callable
from dataclasses import dataclass, field

from blemish.messages import in_language


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an image has its verdict."""

    code: str
    """A stable name, such as "critical" or "too_many_minor"."""
    render: Callable[[], str] = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """In the user's language."""
        return str(self.render())

    def to_dict(self) -> dict[str, str]:
        """Code and texts, as values that JSON can hold."""
        texts = {}
        for language in ("en", "zh"):
            with in_language(language):
                texts[language] = str(self.render())
        return {"code": self.code, **texts}
