"""What a download leaves in the cache, and the errors of downloads that fail."""

import hashlib
import re
import socket
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from blemish.errors import WeightsError
from blemish.features.download import OFFICIAL, OfficialFile, cache_folder
from blemish.features.weights import pretrained_state
from weights_server import SHAPES, STATE, Server, as_torch_file, left_in_cache


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("digits", [64, 8])
def test_download_is_kept_and_used_without_network(
    monkeypatch: pytest.MonkeyPatch, server: Server, zipped: bool, digits: int
) -> None:
    server.content = as_torch_file(STATE, zipped)
    sha256 = hashlib.sha256(server.content).hexdigest()[:digits]
    monkeypatch.setitem(OFFICIAL, "tiny", OfficialFile("tiny.pth", sha256))
    for _ in range(2):
        state = pretrained_state("tiny", SHAPES)
        assert list(state) == ["w"]
        assert torch.equal(state["w"], STATE["w"])
        assert left_in_cache() == ["tiny.pth"]
    assert server.requests == ["/models/tiny.pth"]
    assert (cache_folder() / "tiny.pth").read_bytes() == server.content


def test_download_says_what_it_does(
    server: Server, official: OfficialFile, caplog: pytest.LogCaptureFixture
) -> None:
    pretrained_state("tiny", SHAPES)
    assert caplog.messages == [f"Downloading {server.address}/{official.name} (0 MB) into {cache_folder()}"]


def test_cache_folder_need_not_exist(server: Server, official: OfficialFile) -> None:
    cache_folder().rmdir()
    assert torch.equal(pretrained_state("tiny", SHAPES)["w"], STATE["w"])


def failed_download(official: OfficialFile, address: str, reason: str, tmp_path: Path) -> str:
    """The pattern of the whole error text; `reason` is a pattern too."""
    absent = (
        f"No pretrained weights for tiny: {official.name} is not in {cache_folder()} "
        f"or $BLEMISH_WEIGHTS ({tmp_path / 'given'}), and downloading {address}/{official.name} failed: "
    )
    return f"^{re.escape(absent)}{reason}{re.escape('. Put the file into one of these folders.')}$"


def test_wrong_hash(server: Server, official: OfficialFile, tmp_path: Path) -> None:
    server.content = server.content[:-1] + b"?"
    found = hashlib.sha256(server.content).hexdigest()
    reason = f"its sha256 is {found}, expected {official.sha256}"
    with pytest.raises(WeightsError, match=failed_download(official, server.address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


def test_cut_connection(server: Server, official: OfficialFile, tmp_path: Path) -> None:
    size = len(server.content)
    server.promised = size
    server.content = server.content[: size // 2]
    reason = f"the connection was cut after {size // 2} of {size} bytes"
    with pytest.raises(WeightsError, match=failed_download(official, server.address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


def test_a_download_that_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, server: Server, official: OfficialFile, tmp_path: Path
) -> None:
    monkeypatch.setattr("blemish.features.download.LONGEST_DOWNLOAD_SECONDS", 0.2)
    server.pause = 0.05  # far below the time without any data that is allowed
    reason = "it takes longer than 0 seconds"
    with pytest.raises(WeightsError, match=failed_download(official, server.address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


def test_what_a_killed_download_left_is_removed_by_the_next_one(
    server: Server, official: OfficialFile
) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / f".{'0a' * 16}.partial").write_bytes(b"half a file")
    (cache_folder() / "notes.partial").write_bytes(b"not ours")
    pretrained_state("tiny", SHAPES)
    assert left_in_cache() == ["notes.partial", official.name]


def test_file_not_on_the_server(server: Server, official: OfficialFile, tmp_path: Path) -> None:
    server.status = 404
    reason = "HTTP Error 404: Not Found"
    with pytest.raises(WeightsError, match=failed_download(official, server.address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


def test_no_server(
    monkeypatch: pytest.MonkeyPatch, official: OfficialFile, server: Server, tmp_path: Path
) -> None:
    with socket.socket() as unused:  # bound but not listening: nobody answers there
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("BLEMISH_WEIGHTS_URL", f"{address}/")
        with pytest.raises(WeightsError, match=failed_download(official, address, ".*refused.*", tmp_path)):
            pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


@pytest.mark.parametrize("promised", [None, -1], ids=["announced", "not announced"])
def test_download_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    official: OfficialFile,
    tmp_path: Path,
    promised: int | None,
) -> None:
    server.promised = promised
    monkeypatch.setattr("blemish.features.download.LARGEST_DOWNLOAD", 1000)
    reason = "it is larger than 1000 bytes"
    with pytest.raises(WeightsError, match=failed_download(official, server.address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_address_that_is_not_on_the_web(
    monkeypatch: pytest.MonkeyPatch, server: Server, official: OfficialFile, tmp_path: Path, scheme: str
) -> None:
    (tmp_path / official.name).write_bytes(server.content)
    address = f"{scheme}://{tmp_path}"
    monkeypatch.setenv("BLEMISH_WEIGHTS_URL", address)
    reason = "the address must start with http:// or https://"
    with pytest.raises(WeightsError, match=failed_download(official, address, reason, tmp_path)):
        pretrained_state("tiny", SHAPES)


def test_interrupted_download_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, server: Server, official: OfficialFile
) -> None:
    def interrupt(*_: object) -> str:
        assert len(left_in_cache()) == 2, "the file and the lock"
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.features.download._stream", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pretrained_state("tiny", SHAPES)
    assert left_in_cache() == []


def test_downloads_at_the_same_time(server: Server, official: OfficialFile) -> None:
    found: list[Tensor] = []
    threads = [
        threading.Thread(target=lambda: found.append(pretrained_state("tiny", SHAPES)["w"])) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(torch.equal(tensor, STATE["w"]) for tensor in found)
    assert left_in_cache() == [official.name]
