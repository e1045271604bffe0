"""A hub on the loopback: it answers for one model as huggingface.co does, or in one of the ways that it should not."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Seen(NamedTuple):
    path: str
    headers: dict[str, str]


class Hub:
    """What is served, and what was asked for. `faults` are by the name of a file, or "api" for the list."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        self.repository, self.files = repository, files
        self.faults: dict[str, str] = {}
        self.siblings = [sibling(name, data) for name, data in files.items()]
        self.seen: list[Seen] = []
        self.elsewhere = ""
        """the address that large files are redirected to"""
        self.half_sent, self.closing = threading.Event(), threading.Event()

    def asked(self, name: str) -> list[Seen]:
        return [one for one in self.seen if one.path.endswith("/" + name)]


def sibling(name: str, data: bytes) -> dict[str, Any]:
    """What the hub states of a file: large ones by the SHA-256 of their content, others by their id in git."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    found: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob}
    if name.endswith((".safetensors", ".msgpack", ".bin")):
        found["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.seen.append(Seen(path, {name.lower(): value for name, value in self.headers.items()}))
        revision = f"/api/models/{hub.repository}/revision/"
        if path.startswith(revision):
            self._list(hub, path.removeprefix(revision))
            return
        name = path.removeprefix(f"/{hub.repository}/resolve/{COMMIT}/").removeprefix("/elsewhere/")
        if hub.elsewhere and name.endswith(".safetensors") and not path.startswith("/elsewhere/"):
            self._answer(302, b"", {"Location": f"{hub.elsewhere}/elsewhere/{name}"})
        elif name in hub.files:
            self._file(hub, name, hub.faults.get(name, ""))
        else:
            self._answer(404, b"Not Found", {})

    def _list(self, hub: Hub, revision: str) -> None:
        fault = hub.faults.get("api", "")
        if fault.isdecimal():
            self._answer(int(fault), b"Invalid credentials", {"X-Error-Code": "RepoNotFound"})
        elif fault == "hang":
            hub.closing.wait(60)
        elif fault == "other":
            self._answer(200, b"[1, 2]", {})
        elif revision in (COMMIT, "main", COMMIT[:7]):
            values = {"id": hub.repository, "sha": COMMIT, "siblings": hub.siblings}
            self._answer(200, json.dumps(values).encode(), {"Content-Type": "application/json"})
        else:
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})

    def _file(self, hub: Hub, name: str, fault: str) -> None:
        data = hub.files[name]
        if fault.isdecimal():
            self._answer(int(fault), b"", {})
            return
        if fault == "flip":
            data = data[:-1] + bytes([data[-1] ^ 1])
        elif fault == "longer":
            data += b"more"
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        headers = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
        end = len(data) if fault not in ("truncate", "break", "hang") else len(data) // 2
        if fault == "break":
            del hub.faults[name]
        self._answer(206 if begin else 200, data[begin:end], headers, len(data) - begin)
        if end < len(data):
            self.wfile.flush()
            hub.half_sent.set()
            if fault == "hang":
                hub.closing.wait(60)
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str], length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the other side may have had enough
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Answer until the block ends; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
