"""Named configurations of methods."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """A named configuration of a method, usually that of a paper."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the method's constructor that differ from the defaults."""
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Preprocess` that differ from the defaults; without any, the preset suits images of any size."""
