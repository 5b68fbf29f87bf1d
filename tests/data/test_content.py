"""Hashes of image files: each file is read once, copies are found, fingerprints follow names and contents."""

import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from blemish.data import content
from blemish.data.content import content_hashes, find_shared_content, fingerprint
from blemish.data.images import content_fingerprint, write_image
from blemish.errors import DataError
from blemish.types import Sample
from image_examples import make_images


def in_test(paths: list[Path]) -> list[Sample]:
    return [Sample(path, 0, "test") for path in paths]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """How often each file is read for its hash."""
    counts: Counter[Path] = Counter()
    original = content_fingerprint

    def counting(path: Path) -> str:
        counts[path] += 1
        return original(path)

    monkeypatch.setattr(content, "content_fingerprint", counting)
    return counts


def test_hashes_are_those_of_the_bytes_and_each_file_is_read_once(
    tmp_path: Path, reads: Counter[Path]
) -> None:
    paths = make_images(tmp_path, 5)
    found = content_hashes([*paths, paths[0]])
    assert found == {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert list(found) == paths
    assert reads == dict.fromkeys(paths, 1)
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        content_hashes([*paths, tmp_path / "gone.png"])


def test_only_hashing_that_lasts_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_images(tmp_path, 3)
    calls: list[tuple[str, int, int | None]] = []
    content_hashes(paths, lambda *what: calls.append(what))
    assert calls == []
    monkeypatch.setattr(content, "SILENT_SECONDS", -1.0)
    content_hashes(paths, lambda *what: calls.append(what))
    assert calls == [("hashing images", done, 3) for done in (1, 2, 3)]


def test_shared_content_is_found(tmp_path: Path, reads: Counter[Path]) -> None:
    train, test = make_images(tmp_path / "train", 4), make_images(tmp_path / "test", 3)
    hashes = content_hashes(train)
    assert find_shared_content(hashes, in_test(test)) == []
    copies = [test[0], tmp_path / "test" / "copy.png"]
    for copy in copies:
        shutil.copy(train[2], copy)
    expected = [(train[2], test[0]), (train[2], copies[1]), (train[1], train[1])]
    assert find_shared_content(hashes, in_test([*test, copies[1], train[1]])) == expected
    other = tmp_path / "other.png"
    other.write_bytes(train[2].read_bytes()[:-1] + b"x")
    assert find_shared_content(hashes, in_test([other])) == []
    assert all(reads[path] == 1 for path in train), "a training file is not hashed again"
    reads.clear()
    other.write_bytes(b"of another length")
    assert find_shared_content(hashes, in_test([other])) == []
    assert not reads, "of another length, hashed needlessly"


def test_fingerprint_follows_names_and_contents_only(tmp_path: Path) -> None:
    def fingerprint_of(folder: Path, count: int | None = None, step: int = 1) -> str:
        samples = [Sample(path, 0, "train") for path in sorted(folder.iterdir())][:count][::step]
        return fingerprint(samples, content_hashes(sample.path for sample in samples))

    make_images(tmp_path / "a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "moved 数据")
    before = fingerprint_of(tmp_path / "a")
    lines = sorted(
        f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.name}\n" for p in (tmp_path / "a").iterdir()
    )
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert fingerprint_of(tmp_path / "moved 数据", step=-1) == before
    assert fingerprint_of(tmp_path / "a", count=2) != before
    (tmp_path / "a/1.png").rename(tmp_path / "a/7.png")
    assert fingerprint_of(tmp_path / "a") != before
    write_image(tmp_path / "moved 数据/1.png", np.zeros((4, 4), np.uint8))
    assert fingerprint_of(tmp_path / "moved 数据") != before
