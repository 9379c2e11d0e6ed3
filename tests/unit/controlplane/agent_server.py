"""A TLS server that plays an agent inside the test process: a thread, no child process."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from controlplane.pki import Authority, Credentials

#: method, path, headers (lower case), body -> status, body
Answer = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]


@dataclass
class AgentServer:
    """Where it listens, and what it was asked."""

    port: int
    connections: list[object] = field(default_factory=list)

    def dial(self, address: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)


@contextmanager
def agent_server(
    directory: Path, authority: Authority, credentials: Credentials, answer: Answer
) -> Iterator[AgentServer]:
    """Serve ``answer`` over TLS with ``credentials``; clients must show a certificate of ``authority``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            server.connections.append(self.client_address)
            super().setup()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, content = answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            return None

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "agent.pem").write_bytes(credentials.key + credentials.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "agent.pem")
    context.load_verify_locations(cadata=authority.certificate.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
    server = AgentServer(listener.server_address[1])
    thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
