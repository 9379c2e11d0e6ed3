"""nginx on a machine of the tests, which does to a download what web servers and networks do to it."""

from __future__ import annotations

import textwrap

from tests.netns.lab import Machine
from tests.netns.ssvm.world import FILES, INNER
from tests.wait import wait_for

PORT, TLS_PORT = 81, 443
#: bytes a second of what is below /slow/: long enough for something to happen in the middle
SLOW = 4 << 20
LOG = "/run/nginx.access"

_CONFIGURATION = """
daemon off; pid /run/nginx.pid; error_log /run/nginx.error; user root;
events {{ worker_connections 256; }}
http {{
    log_format asked escape=none '$remote_addr $status $uri [$http_range] [$http_if_range]';
    access_log {log} asked;
    sendfile on;
    client_body_temp_path /run/nginx-1; proxy_temp_path /run/nginx-2; fastcgi_temp_path /run/nginx-3;
    uwsgi_temp_path /run/nginx-4; scgi_temp_path /run/nginx-5;
    server {{
        listen {port};
        {tls}
        root {files};
        location /slow/ {{ alias {files}/; limit_rate {slow}; }}
        location /whole/ {{ alias {files}/; max_ranges 0; }}
        location /inward {{ return 302 http://{inner}:8000/plain.qcow2; }}
        location /metadata {{ return 307 http://169.254.169.254/latest/; }}
        location /loop {{ return 301 /loop; }}
        location /secure {{ return 302 http://$host:{port}/plain.qcow2; }}
        location /busy {{ return 503; }}
    }}
}}
"""


class Nginx:
    """A running server of the directory ``FILES``; with ``certificate`` and ``key`` it also serves HTTPS."""

    def __init__(self, machine: Machine, certificate: str = "", key: str = "") -> None:
        self._machine = machine
        tls = ""
        if certificate:
            machine.write("/run/nginx.crt", certificate)
            machine.write("/run/nginx.key", key)
            tls = f"listen {TLS_PORT} ssl; ssl_certificate /run/nginx.crt; ssl_certificate_key /run/nginx.key;"
        text = _CONFIGURATION.format(log=LOG, port=PORT, tls=tls, files=FILES, slow=SLOW, inner=INNER)
        machine.write("/run/nginx.conf", textwrap.dedent(text))
        self._process = machine.popen(["/usr/sbin/nginx", "-c", "/run/nginx.conf", "-e", "/run/nginx.error"])
        wait_for(lambda: machine.connects("127.0.0.1", PORT), 20, "nginx")

    def signal(self, name: str) -> None:
        """Send a signal to the processes that serve; nginx starts new ones in place of those that end."""
        self._machine.kill("nginx: worker", name)

    def asked(self, path: str) -> list[tuple[int, str, str]]:
        """Status, Range and If-Range of the requests for a path that were answered, oldest first."""
        lines = (line.split(" ", 3) for line in self._machine.read(LOG).splitlines())
        found = [(int(status), rest) for _, status, uri, rest in lines if uri == path]
        return [(status, *rest[1:-1].split("] [")) for status, rest in found]  # type: ignore[misc]
