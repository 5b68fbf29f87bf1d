"""Model folders: their content and verdicts, writes that fail, and changes that an attacker could make."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.files import sha256_of, stored_path
from blemish.inspection.result import Inspection
from blemish.manifest import FILE, WEIGHTS

Json = dict[str, Any]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def stored(folder: Path, name: str = WEIGHTS) -> Path:
    """The file that the manifest lists under a name."""
    return stored_path(folder, name, json.loads((folder / FILE).read_text("utf-8"))["files"][name])


def same(a: Inspection, b: Inspection) -> bool:
    return a.to_dict() == b.to_dict() and np.array_equal(a.anomaly_map, b.anomaly_map)


def broken_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, error: BaseException
) -> None:
    """The given call of a function raises, the others work."""
    original = getattr(owner, name)
    calls = 0

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, sometimes)


def tamper(folder: Path, change: Callable[[Json], None]) -> None:
    """Change the manifest, and make its hashes true again, as an attacker would."""
    path = folder / FILE
    values = json.loads(path.read_text("utf-8"))
    for name in values["files"]:
        file = stored(folder, name)
        if file.is_file():
            values["files"][name] = sha256_of(file)
            file.rename(folder / name)
    change(values)
    path.write_text(json.dumps(values), "utf-8")


def nothing(values: Json) -> None:
    pass


class Bomb:
    """Fails the test when it is unpickled."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was opened",)
