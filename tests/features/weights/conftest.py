"""No weights on this computer, and a server that may offer some."""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blemish.features.download import OFFICIAL, OfficialFile
from weights_server import STATE, Server, as_torch_file


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights anywhere, and no way to reach the real address."""
    monkeypatch.setattr("blemish.features.download.user_cache_path", lambda *_, **__: tmp_path / "cache")
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
            if not answer.pause:
                self.wfile.write(answer.content)
                return
            with suppress(OSError):  # the client has given up
                for byte in answer.content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(answer.pause)

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
