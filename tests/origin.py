"""A web server of files that misbehaves as the query of each request asks it to. Standard library only.

=================  ===================================================================================================
``drop=N``         the connection ends after N bytes of each body
``stall=N``        nothing more comes after N bytes, and the connection stays open
``longer=N``       Content-Length says N bytes more than there are
``chunked``        no length; ``chunked&drop=N`` ends without the last chunk
``changing``       the ETag is another one in each answer
``unvalidated``    neither ETag nor Last-Modified
``whole``          Range is passed over
``shifted``        206 from one byte further than was asked for
``to=URL``         a redirect
``status=N``       that status instead of a file; ``status=N&times=M``: of the first M requests only
``gzip``           the body is said to be encoded
=================  ===================================================================================================
"""

from __future__ import annotations

import hashlib
import http.server
import re
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

CHUNK = 65536


class Origin(http.server.BaseHTTPRequestHandler):
    """``root`` is the directory of files; ``seen`` the path and Range of each request."""

    root: ClassVar[Path]
    seen: ClassVar[list[tuple[str, str | None]]]
    counts: ClassVar[Counter[str]]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.close_connection = True
        type(self).seen.append((self.path, self.headers.get("Range")))
        type(self).counts[self.path] += 1
        count = type(self).counts[self.path]
        if "to" in query:
            self._empty(302, Location=query["to"])
        elif "status" in query and count <= int(query.get("times", sys.maxsize)):
            self._empty(int(query["status"]))
        else:
            path = self.root / parts.path.lstrip("/")
            if path.is_file():
                self._file(path, query, count)
            else:
                self._empty(404)

    def _empty(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: Path, query: dict[str, str], count: int) -> None:
        about = path.stat()
        tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}{f"-{count}" if "changing" in query else ""}"'
        offset = self._offset(query, tag, about.st_size)
        if offset is None:
            self.send_response(200)
            offset = 0
        elif offset >= about.st_size:
            return self._empty(416)
        else:
            offset += "shifted" in query
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {offset}-{about.st_size - 1}/{about.st_size}")
        if "unvalidated" not in query:
            self.send_header("ETag", tag)
        if "gzip" in query:
            self.send_header("Content-Encoding", "gzip")
        if "chunked" in query:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(about.st_size - offset + int(query.get("longer", 0))))
        self.end_headers()
        self._body(path, offset, query)
        return None

    def _offset(self, query: dict[str, str], tag: str, size: int) -> int | None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if found is None or "whole" in query or self.headers.get("If-Range", tag) != tag:
            return None
        return int(found[1])

    def _body(self, path: Path, offset: int, query: dict[str, str]) -> None:
        left = int(query.get("drop", query.get("stall", sys.maxsize)))
        with path.open("rb") as file:
            file.seek(offset)
            while left and (data := file.read(min(CHUNK, left))):
                left -= len(data)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if "chunked" in query else data)
        if "stall" in query:
            self.wfile.flush()
            self.connection.recv(1)  # until the client gives up
        elif left and "chunked" in query:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        return None  # clients go away in the middle: that is what is tested


def serve(root: Path, address: str = "127.0.0.1", port: int = 0) -> Server:
    """A running server of ``root``; its handler class has ``seen``."""
    handler = type("Handler", (Origin,), {"root": root, "seen": [], "counts": Counter()})
    server = Server((address, port), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


if __name__ == "__main__":
    serve(Path(sys.argv[1]), "", int(sys.argv[2]))
    threading.Event().wait()
