"""The folders in which pretrained weights are searched, and the files that a download leaves."""

import hashlib
import io
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from blemish.errors import WeightsError
from blemish.features.backbone import Backbone
from blemish.features.resnet import DESIGNS, ResNet, fold_batch_norms, state_dict_shapes
from blemish.features.weights import OFFICIAL, OfficialFile, cache_folder, pretrained_state

SHAPES = {"w": (2, 3)}
STATE = {"w": torch.arange(6.0).view(2, 3), "not needed": torch.zeros(1)}


@dataclass
class Server:
    """Answers every request with the same content, rightly or wrongly."""

    content: bytes
    address: str = ""
    status: int = 200
    promised: int | None = None
    """The Content-Length that is sent; -1 sends none."""
    requests: list[str] = field(default_factory=list)


def as_torch_file(state: dict[str, Tensor], zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights anywhere, and no way to reach the real address."""
    monkeypatch.setattr("blemish.features.weights.user_cache_path", lambda *_, **__: tmp_path / "cache")
    monkeypatch.setattr("blemish.features.weights.EMBEDDED", tmp_path / "package")
    monkeypatch.setenv("BLEMISH_WEIGHTS", str(tmp_path / "given"))
    monkeypatch.setenv("BLEMISH_WEIGHTS_URL", "http://127.0.0.1:9/closed")
    monkeypatch.setenv("no_proxy", "*")
    for folder in ("cache/weights", "package", "given"):
        (tmp_path / folder).mkdir(parents=True)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    answer = Server(as_torch_file(STATE))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.requests.append(self.path)
            self.send_response(answer.status)
            promised = len(answer.content) if answer.promised is None else answer.promised
            if promised >= 0:
                self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is http.server's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answer.address = f"http://127.0.0.1:{http.server_port}/models"
        monkeypatch.setenv("BLEMISH_WEIGHTS_URL", answer.address)
        yield answer
        http.shutdown()
        thread.join()


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch, server: Server) -> OfficialFile:
    """A small file of which the server has the right content."""
    file = OfficialFile("tiny-12345678.pth", hashlib.sha256(server.content).hexdigest())
    monkeypatch.setitem(OFFICIAL, "tiny", file)
    return file


def left_in_cache() -> list[str]:
    return sorted(path.name for path in cache_folder().iterdir())


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
    monkeypatch.setattr("blemish.features.weights.LARGEST_DOWNLOAD", 1000)
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
        assert len(left_in_cache()) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("blemish.features.weights._stream", interrupt)
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


def test_file_damaged_in_the_cache(server: Server, official: OfficialFile) -> None:
    pretrained_state("tiny", SHAPES)
    path = cache_folder() / official.name
    path.write_bytes(b"x")
    text = f"{path} is damaged: its sha256 is {hashlib.sha256(b'x').hexdigest()}, expected {official.sha256}."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)} Delete the file.$"):
        pretrained_state("tiny", SHAPES)


@pytest.mark.parametrize("given", [True, False])
def test_network_without_an_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: bool) -> None:
    if not given:
        monkeypatch.delenv("BLEMISH_WEIGHTS")
    text = (
        f"No pretrained weights for resnet50_caffe: resnet50_caffe.safetensors is not in {cache_folder()} "
        f"or $BLEMISH_WEIGHTS ({tmp_path / 'given' if given else 'not set'}), "
        "and there is no address to download it from. Put the file into one of these folders."
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        Backbone("resnet50_caffe", (2,))


def test_given_folder_goes_before_the_cache_and_the_package(tmp_path: Path) -> None:
    folders = [tmp_path / "given", cache_folder(), tmp_path / "package"]
    for i, folder in enumerate(folders):
        save_file({"w": torch.full((2, 3), float(i))}, folder / "tiny.safetensors")
    for i, folder in enumerate(folders):
        assert torch.equal(pretrained_state("tiny", SHAPES)["w"], torch.full((2, 3), float(i)))
        (folder / "tiny.safetensors").unlink()


def test_official_file_in_the_given_folder_is_checked_too(
    server: Server, official: OfficialFile, tmp_path: Path
) -> None:
    path = tmp_path / "given" / official.name
    path.write_bytes(server.content)
    assert torch.equal(pretrained_state("tiny", SHAPES)["w"], STATE["w"])
    path.write_bytes(server.content + b"?")
    with pytest.raises(WeightsError, match=re.escape(f"{path} is damaged: its sha256 is ")):
        pretrained_state("tiny", SHAPES)
    assert server.requests == []


def test_damaged_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(
        WeightsError, match=rf"{re.escape(str(path))} cannot be read: .+\. Replace it with an undamaged"
    ):
        pretrained_state("tiny", SHAPES)


def test_tensor_of_another_shape(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    save_file(STATE, path)
    text = f"{path} holds w with shape (2, 3), but tiny needs (3, 2). Replace the file with one of tiny."
    with pytest.raises(WeightsError, match=f"^{re.escape(text)}$"):
        pretrained_state("tiny", {"w": (3, 2)})


def test_missing_tensor(tmp_path: Path) -> None:
    path = tmp_path / "given" / "tiny.safetensors"
    save_file(STATE, path)
    remedy = "Request earlier layers of tiny, or replace the file with one that has all tensors."
    with pytest.raises(WeightsError, match=f"^{re.escape(f'{path} lacks a of shape (7, 1). {remedy}')}$"):
        pretrained_state("tiny", {"a": (7, 1), "w": (2, 3)})


def first_stage_of_resnet18() -> dict[str, Tensor]:
    """A truncated file: torchvision's names, random numbers, stage 1 only."""
    generator = torch.Generator().manual_seed(0)
    shapes = state_dict_shapes(ResNet(DESIGNS["resnet18"], 1))
    return {key: torch.rand(shape, generator=generator) + 0.1 for key, shape in shapes.items()}


def test_backbone_from_a_truncated_official_file(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    state = first_stage_of_resnet18()
    server.content = as_torch_file(state, zipped=False)
    file = OfficialFile("resnet18-f37072fd.pth", hashlib.sha256(server.content).hexdigest())
    monkeypatch.setitem(OFFICIAL, "resnet18", file)
    backbone = Backbone("resnet18", (1,))
    expected = fold_batch_norms(state)
    assert {f"network.{key}" for key in expected} == {
        f"network.{key}" for key in backbone.network.state_dict()
    }
    assert all(torch.equal(backbone.state_dict()[f"network.{key}"], expected[key]) for key in expected)
    with pytest.raises(
        WeightsError, match=r"resnet18-f37072fd\.pth lacks layer2\.0\.conv1\.weight of shape \(128, 64"
    ):
        Backbone("resnet18", (1, 2))


def test_backbone_refuses_a_batch_norm_that_does_not_fit(tmp_path: Path) -> None:
    state = first_stage_of_resnet18()
    path = tmp_path / "given" / "resnet18.safetensors"
    save_file({**state, "bn1.bias": torch.zeros(32)}, path)
    with pytest.raises(
        WeightsError, match=r"holds bn1\.bias with shape \(32,\), but resnet18 needs \(64,\)\."
    ):
        Backbone("resnet18", (1,))
    del state["layer1.1.bn2.running_var"]
    save_file(state, path)
    with pytest.raises(
        WeightsError, match=r"lacks layer1\.1\.bn2\.running_var of shape \(64,\)\. Request earlier"
    ):
        Backbone("resnet18", (1,))


def test_half_precision_weights_become_float32(tmp_path: Path) -> None:
    network = Backbone("compact:random", (2,)).network
    state = {key: tensor.half().contiguous() for key, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "package" / "compact.safetensors")
    backbone = Backbone("compact", (2,))
    assert {tensor.dtype for tensor in backbone.state_dict().values()} == {torch.float32}
    assert all(
        torch.equal(backbone.network.state_dict()[key], tensor.float()) for key, tensor in state.items()
    )


def test_official_hashes_begin_as_the_files_names_say() -> None:
    assert set(OFFICIAL) == set(DESIGNS) - {"resnet50_caffe"}
    for name, file in OFFICIAL.items():
        match = re.fullmatch(r"([a-z0-9_]+)-([0-9a-f]{8})\.pth", file.name)
        assert match is not None
        assert match[1] == name
        assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)
        assert file.sha256.startswith(match[2])
