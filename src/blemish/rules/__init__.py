"""Rules: the severity of regions by their measures and zones, and the verdict that follows."""

from blemish.rules.record import Rules
from blemish.rules.toml import read_rules

__all__ = ["Rules", "read_rules"]
