"""Files of which only the names matter."""

from pathlib import Path


def touch(root: Path, *names: str) -> None:
    """Layouts look at names only, so empty files will do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
