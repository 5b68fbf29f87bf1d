"""Two processes that change one model while others read it and some are killed lose nothing."""

from pathlib import Path

import pytest
from benchmarks import changes


def test_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "KILLED_EVERY", 4.0)
    assert changes.run(tmp_path, 6).endswith("nothing lost, nothing left over")
