"""A web server for machines of the tests: one page for every request, and who asked for it in ``CLIENTS``."""

from __future__ import annotations

#: source addresses of the requests, oldest first, a line each
CLIENTS = "/run/clients"

_PROGRAM = """
import http.server, sys
port, body, clients = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(clients, "a") as file: print(self.client_address[0], file=file)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
open(clients, "a").close()
http.server.ThreadingHTTPServer(("", port), Handler).serve_forever()
"""


def web_server(port: int, page: str) -> list[str]:
    """The command that serves ``page`` on ``port`` until it is ended. It uses the machine's own Python."""
    return ["/usr/bin/python3", "-c", _PROGRAM, str(port), page, CLIENTS]
