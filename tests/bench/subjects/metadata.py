"""Metadata requests per second, one connection each: the router's server beside nginx with the same bytes as files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from controlplane.hypervisors.namespace.processes import members
from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.netns.lab import Instance, Lab, Machine
from tests.wait import wait_for

ORDER = 6

#: requests at the same time
CLIENTS = 32

NGINX = """
daemon off; pid /run/nginx.pid; error_log /run/nginx-error.log; worker_processes 1;
events { worker_connections 4096; multi_accept on; }
http {
    access_log off; sendfile on; tcp_nopush on; default_type text/plain; open_file_cache max=100;
    client_body_temp_path /run/nginx-body; proxy_temp_path /run/nginx-proxy; fastcgi_temp_path /run/nginx-fastcgi;
    uwsgi_temp_path /run/nginx-uwsgi; scgi_temp_path /run/nginx-scgi;
    server { listen 80 backlog=4096; root /run/files; }
}
"""

#: path -> what is measured with it
PATHS = {"/latest/meta-data/local-hostname": "an item", "/latest/user-data": "user data"}


def measure(quick: bool) -> Iterator[Figure]:
    seconds, rounds, guests = (1, 2, 10) if quick else (3, 5, 1_000)
    # one core for the servers, which take turns, and one for the client
    server_cpu, client_cpu = (*sorted(os.sched_getaffinity(0))[:2], 0)[:2]
    with cloud.lab() as lab:
        segment, other = lab.segment(), lab.segment()
        router = cloud.boot(lab, cloud.state(lab, rules=1, guests=guests), segment, lab.segment("public"))
        servers = {"router": _process(lab, router, "metadata.server")}
        os.sched_setaffinity(servers["router"], {server_cpu})
        client = _client(lab, segment)
        bodies = {path: client.run(["curl", "-sf", f"http://10.1.0.1{path}"]).stdout for path in PATHS}
        servers["nginx"] = _process(lab, _nginx(lab, other, bodies, server_cpu), "nginx: worker")
        beside = _client(lab, other)
        for path, what in PATHS.items():
            assert beside.run(["curl", "-sf", f"http://10.1.0.1{path}"]).stdout == bodies[path] != ""
            runs = interleaved(
                rounds,
                router=partial(_load, client, servers["router"], path, seconds, client_cpu),
                nginx=partial(_load, beside, servers["nginx"], path, seconds, client_cpu),
            )
            mine, theirs = runs["router"], runs["nginx"]
            yield Figure(
                f"metadata: {what}, {guests:,} guests known, by one core",
                "requests/s",
                [run.of_a_core for run in mine],
                Target("at least", 0.3, of="ratio"),
                "nginx",
                [run.of_a_core for run in theirs],
                {"core_use": {"router": [run.core_use for run in mine], "nginx": [run.core_use for run in theirs]}},
            )
            yield Figure(
                f"metadata: {what}, as fast as one client asks",
                "requests/s",
                [run.rate for run in mine],
                None,
                "nginx",
                [run.rate for run in theirs],
            )


@dataclass(frozen=True)
class Load:
    """One run of the client: requests a second, and the share of a core that the server took for them."""

    rate: float
    core_use: float

    @property
    def of_a_core(self) -> float:
        """Requests a second of processor time: a client that is slower than the server does not level them."""
        return self.rate / self.core_use


def _client(lab: Lab, segment: str) -> Machine:
    machine = lab.guest(segment, address=f"{cloud.guest_address(0)}/16", gateway="10.1.0.1")
    machine.run(["sh", "-c", "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range"])
    return machine


def _process(lab: Lab, instance: Instance, name: str) -> int:
    """The process in ``instance`` whose command line has ``name`` in it, as the machine numbers it."""
    init = lab.hypervisor._process(instance.id)
    assert init is not None
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in members(init.pid)}
    [found] = [pid for pid, command in commands.items() if name in command]
    return found


def _busy(pid: int) -> float:
    """Seconds on a processor so far (proc_pid_schedstat, first field, in nanoseconds)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _nginx(lab: Lab, segment: str, bodies: dict[str, str], cpu: int) -> Machine:
    machine = lab.guest(segment, address="10.1.0.1/16")
    for path, body in bodies.items():
        machine.run(["mkdir", "-p", str(Path(f"/run/files{path}").parent)])
        machine.write(f"/run/files{path}", body)
    machine.run(["chmod", "-R", "a+rX", "/run/files"])
    machine.write("/run/nginx.conf", NGINX)
    machine.popen(["taskset", "-c", str(cpu), "nginx", "-c", "/run/nginx.conf"])
    wait_for(lambda: machine.connects("127.0.0.1", 80), 5, "nginx")
    return machine


def _load(client: Machine, server: int, path: str, seconds: int, cpu: int) -> Load:
    """wrk(1) with each request on a connection of its own."""
    load = ["taskset", "-c", str(cpu), "wrk", "-t", "1", "-c", str(CLIENTS), "-d", str(seconds)]
    before = _busy(server)
    done = client.run([*load, "-H", "Connection: close", f"http://10.1.0.1{path}"])
    busy = _busy(server) - before
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    assert found is not None, done.stdout
    return Load(int(found[1]) / float(found[2]), busy / float(found[2]))
