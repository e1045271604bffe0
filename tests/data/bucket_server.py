"""A bucket in a directory, served on the loopback as S3 and Google Cloud Storage are: to list, to look and to read."""

import contextlib
import hashlib
import http.server
import json
import os
import threading
import urllib.parse
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape


PAGE = 3


class Server(http.server.ThreadingHTTPServer):
    """Serves `root`/BUCKET/KEY; `seen` lists what was asked for."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.seen: list[tuple[str, str, str]] = []
        self.broken: set[str] = set()
        """keys whose bytes cannot be had"""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Server]:
    with Server(root) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: apart, each answer waits for the client's late acknowledgement
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        self.server.seen.append((self.command, url.path, self.headers.get("Range", "")))
        parts = [urllib.parse.unquote(part) for part in url.path.lstrip("/").split("/")]
        if "storage" in parts[:2]:
            bucket, key = parts[parts.index("b") + 1], "/".join(parts[parts.index("o") + 1 :]) if "o" in parts else ""
            if key:
                self._object(bucket, key) if query.get("alt") == "media" else self._described(bucket, key)
            else:
                self._json({"items": [self._facts(bucket, one) for one in self._keys(bucket, query.get("prefix", ""))]})
        elif len(parts) > 1 and parts[1]:
            self._object(parts[0], "/".join(parts[1:]))
        else:
            self._listed(parts[0], query)

    def _keys(self, bucket: str, prefix: str) -> list[str]:
        root = self.server.root / bucket
        found = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
        return sorted(key for key in found if key.startswith(prefix))

    def _facts(self, bucket: str, key: str) -> dict[str, Any]:
        path = self.server.root / bucket / key
        status = path.stat()
        return {
            "bucket": bucket,
            "name": key,
            "size": str(status.st_size),
            "etag": hashlib.md5(path.read_bytes()).hexdigest(),
            "generation": str(status.st_mtime_ns),
            "updated": f"2026-01-01T00:00:00.{status.st_mtime_ns % 1000:03d}Z",
            "timeCreated": "2026-01-01T00:00:00.000Z",
        }

    def _described(self, bucket: str, key: str) -> None:
        if (self.server.root / bucket / key).is_file():
            self._json(self._facts(bucket, key))
        else:
            self._send(404, b'{"error": {"code": 404, "message": "no such object"}}', "application/json")

    def _listed(self, bucket: str, query: dict[str, str]) -> None:
        """Answer ListObjectsV2, a few keys at a time."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, str] = {}
        for key in self._keys(bucket, prefix):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common = prefix + rest.split(delimiter)[0] + delimiter
                entries[common] = f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>"
            else:
                facts = self._facts(bucket, key)
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{facts['updated']}</LastModified>"
                    f"<ETag>&quot;{facts['etag']}&quot;</ETag><Size>{facts['size']}</Size></Contents>"
                )
        begin = int(query.get("continuation-token") or 0)
        page, more = list(entries.values())[begin : begin + PAGE], begin + PAGE < len(entries)
        content = "".join(page) + f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            content += f"<NextContinuationToken>{begin + PAGE}</NextContinuationToken>"
        self._send(200, f"<ListBucketResult>{content}</ListBucketResult>".encode(), "application/xml")

    def _object(self, bucket: str, key: str) -> None:
        path = self.server.root / bucket / key
        if not path.is_file():
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
            return
        if key in self.server.broken and self.command == "GET":
            self._send(403, b"<Error><Code>AccessDenied</Code><Message>not yours</Message></Error>", "application/xml")
            return
        content, headers = path.read_bytes(), {}
        facts = self._facts(bucket, key)
        headers["ETag"] = f'"{facts["etag"]}"'
        headers["Last-Modified"] = formatdate(os.stat(path).st_mtime, usegmt=True)
        status = 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            content, status = content[begin : end + 1], 206
        self._send(status, content, "binary/octet-stream", headers)

    def _json(self, content: dict[str, Any]) -> None:
        self._send(200, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
