"""OpenStack Swift on a machine of the tests: Debian's packages, all in one, with the S3 API in the same proxy.

One account; a container is a bucket of the same name. https://docs.openstack.org/swift/latest/development_saio.html
"""

from __future__ import annotations

import subprocess
import textwrap

from tests.netns.lab import Machine
from tests.wait import wait_for

PORT = 8080
ACCOUNT, USER, KEY = "AUTH_test", "test:tester", "testing"
CONTAINER = "images"
#: service -> port
_PARTS = {"object": 6200, "container": 6201, "account": 6202}

_PROXY = f"""
[DEFAULT]
bind_ip = 0.0.0.0
bind_port = {PORT}
workers = 1
user = root
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache s3api tempauth container_quotas slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {KEY} .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:11211
"""
_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "container_quotas", "slo")

_PART = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
devices = /srv/node
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""


class Swift:
    """A running cluster of one replica on ``machine``, with the container ``CONTAINER`` and ``room`` as of tmpfs(5)."""

    def __init__(self, machine: Machine, address: str, room: str = "1g") -> None:
        self._machine, self.address = machine, address
        machine.run(["rm", "-rf", "/etc/swift"])  # what the packages have there is for others
        machine.run(["mkdir", "-p", "/srv/node", "/etc/swift/backups", "/var/cache/swift"])
        # objects' metadata are extended attributes (xattr(7)), which the machine's own file system may lack
        machine.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", "/srv/node"])
        machine.run(["mkdir", "-p", "/srv/node/d1"])
        machine.write("/etc/swift/swift.conf", "[swift-hash]\nswift_hash_path_suffix = tests\n")
        filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _FILTERS)
        machine.write("/etc/swift/proxy-server.conf", textwrap.dedent(_PROXY) + filters)
        for name, port in _PARTS.items():
            machine.write(f"/etc/swift/{name}-server.conf", _PART.format(name=name, port=port))
            ring = ["swift-ring-builder", f"/etc/swift/{name}.builder"]
            place = ["--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", str(port), "--device", "d1"]
            for words in (["create", "4", "1", "0"], ["add", *place, "--weight", "1"], ["rebalance"]):
                machine.run([*ring, *words])
        self._start("/usr/bin/memcached", "-u", "nobody", "-l", "127.0.0.1", "-m", "16")
        for name in _PARTS:
            self._start(f"/usr/bin/swift-{name}-server", f"/etc/swift/{name}-server.conf")
        for port in (11211, *_PARTS.values()):
            wait_for(lambda port=port: machine.connects("127.0.0.1", port), 60, f"port {port} of Swift")  # type: ignore[misc]
        self.start_proxy()
        wait_for(lambda: self.ask("PUT", CONTAINER)[0] in (201, 202), 30, "the container")

    def start_proxy(self) -> None:
        self._start("/usr/bin/swift-proxy-server", "/etc/swift/proxy-server.conf")
        wait_for(lambda: self._machine.connects("127.0.0.1", PORT), 60, "Swift's proxy")

    def stop_proxy(self) -> None:
        self._machine.kill("swift-proxy-server")

    def _start(self, *argv: str) -> None:
        self._machine.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(self, method: str, path: str, *options: str) -> tuple[int, str]:
        """A request for ``path`` of the account, as its user; status and body."""
        base = f"http://127.0.0.1:{PORT}"
        login = ["-H", f"X-Auth-User: {USER}", "-H", f"X-Auth-Key: {KEY}", "-D", "-", "-o", "/dev/null"]
        _, head = self._machine.http(f"{base}/auth/v1.0", *login, timeout=20)
        token = next(line.split(": ")[1] for line in head.splitlines() if line.lower().startswith("x-auth-token:"))
        given = ["-X", method, "-H", f"X-Auth-Token: {token.strip()}", *options]
        return self._machine.http(f"{base}/v1/{ACCOUNT}/{path}", *given, timeout=60)

    def names(self, container: str = CONTAINER) -> list[str]:
        """Objects of a container."""
        return self.ask("GET", container)[1].split()

    def fetch(self, name: str, path: str, container: str = CONTAINER) -> None:
        """Write an object to a file of the machine."""
        status, _ = self.ask("GET", f"{container}/{name}", "-o", path)
        assert status == 200, (name, status)

    def quota(self, octets: int | None) -> None:
        """Let the container hold so many bytes; None: any number."""
        name = "Container-Meta-Quota-Bytes"
        header = f"X-Remove-{name}: all" if octets is None else f"X-{name}: {octets}"
        assert self.ask("POST", CONTAINER, "-H", header)[0] == 204

    def stores(self) -> list[dict[str, str]]:
        """The container as a store of each kind, for documents."""
        at = f"http://{self.address}:{PORT}"
        swift = {"kind": "swift", "id": "swift", "endpoint": f"{at}/auth/v1.0", "container": CONTAINER, "user": USER}
        s3 = {"kind": "s3", "id": "s3", "endpoint": at, "bucket": CONTAINER, "access_key": USER, "prefix": "zone/1"}
        return [{**swift, "secret": KEY}, {**s3, "secret": KEY}]
