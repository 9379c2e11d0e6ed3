"""A small cloud for tests: routers, guests and hosts of the outside, on a real hypervisor.

The lab uses the Hypervisor interface, the control plane's CA and its client of the agents, so tests written with it
do not depend on the kind of hypervisor.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.engine.catalogue import document_type
from appliance.run import run
from appliance.schema.envelope import ControlInterface, Identity, Role
from appliance.schema.status import Health, Status
from appliance.schema.types import Frozen
from controlplane.convergence.push import Agent, AgentClient
from controlplane.hypervisors.base import ApplianceSpec, GuestSpec, HypervisorError, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.pki import Authority
from tests.wait import wait_for
from tests.webserver import CLIENTS, web_server

REPOSITORY = Path(__file__).resolve().parents[2]

State = Frozen | Mapping[str, Any]


class Lab:
    """Everything in it goes when it is closed.

    ``hypervisor`` makes its hypervisor; ``patience`` is how many times longer than in a namespace things may take.
    """

    def __init__(
        self, directory: Path, hypervisor: Callable[..., NamespaceHypervisor] = NamespaceHypervisor, patience: float = 1
    ) -> None:
        self.hypervisor = hypervisor(
            directory / "hypervisor",
            data=directory,
            # guests can run the tests' own programs
            guest_paths=(REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)),
        )
        self.patience = patience
        self.hypervisor.open()
        self.authority = Authority(directory / "ca")
        self.routers: dict[str, Router] = {}
        self.machines: dict[str, Machine] = {}
        self._numbers = itertools.count(1)

    def close(self) -> None:
        for router in self.routers.values():
            router.agent.close()
        self.hypervisor.purge()

    # --- names that are used once -----------------------------------------------------------------------------

    def number(self) -> int:
        return next(self._numbers)

    def mac(self) -> str:
        return "02:" + self.number().to_bytes(5, "big").hex(":")

    def segment(self, name: str = "guest", mtu: int = 1500) -> str:
        """A new segment; returns its name."""
        name = f"{name}-{self.number()}"
        self.hypervisor.ensure_segment(Segment(name, mtu))
        return name

    def control(self, name: str = "eth1") -> dict[str, Any]:
        """A control interface for a router's document, with an address and a MAC nobody else has."""
        address = ipaddress.IPv4Address("169.254.1.0") + self.number()
        return {"name": name, "mac": self.mac(), "role": "control", "addresses": [f"{address}/16"]}

    # --- what the lab is made of ------------------------------------------------------------------------------

    def router(
        self,
        state: State,
        *,
        role: Role = "router",
        segments: Mapping[str, str] | None = None,
        push: bool = True,
        memory_mb: int = 256,
        far: bool = False,
    ) -> Router:
        """Boot a router, or an appliance of another ``role``, with the NICs of ``state`` and push it.

        ``segments``: interface name -> segment. An interface that is not in it is on ``control``, or else on
        ``<role>-<network>`` of the document. ``far``: it is there for another one to talk to, see tests/vm/shared.py.
        """
        router = self.made(state, role, segments, memory_mb)
        router.start()
        if push:
            router.push(state)
        return router

    def made(self, state: State, role: Role, segments: Mapping[str, str] | None, memory_mb: int) -> Router:
        """A router that has not been started; see ``router``."""
        wanted = validated(state, role)
        where = self.segments_of(wanted, segments or {})
        nics = tuple(Nic(interface.mac, where[interface.name]) for interface in wanted.interfaces.interfaces)
        control = wanted.interfaces.of_role("control")[0]
        router = Router(self, f"r-{self.number()}", str(control.addresses[0].ip), role)
        credentials = self.authority.issue(router.id, role)
        identity = Identity(
            id=router.id,
            role=role,
            control=ControlInterface(mac=control.mac, name=control.name, address=str(control.addresses[0])),
        )
        router.spec = ApplianceSpec(
            id=router.id,
            hostname=wanted.hostname,
            nics=nics,
            identity={
                "identity.json": identity.model_dump_json().encode(),
                "ca.pem": self.authority.certificate,
                "cert.pem": credentials.certificate,
                "key.pem": credentials.key,
            },
            memory_mb=memory_mb,
        )
        self.routers[router.id] = router
        return router

    def segments_of(self, wanted: Any, given: Mapping[str, str]) -> dict[str, str]:
        """Interface name -> segment, made where there is none yet; see ``router``."""
        where = {}
        for interface in wanted.interfaces.interfaces:
            default = "control" if interface.role == "control" else f"{interface.role}-{interface.network}".rstrip("-")
            segment = where[interface.name] = given.get(interface.name, default)
            if segment not in self.hypervisor.segments():
                self.hypervisor.ensure_segment(Segment(segment))
        return where

    def guest(
        self,
        segment: str,
        mac: str | None = None,
        *,
        hostname: str = "",
        template: str = "bare",
        address: str | None = None,
        gateway: str | None = None,
        allowed: Sequence[str] | None = None,
        secured: bool = False,
    ) -> Machine:
        """A tenant's machine with one NIC. ``address`` (with prefix length) sets it up by hand, else see ``dhcp()``.

        Its port lets out the addresses ``allowed`` alone; without, the port is not filtered, so that a router sees
        whatever the guest sends. ``secured``: it has security groups.
        """
        name = f"g-{self.number()}"
        nic = Nic(
            (mac or self.mac()).lower(),
            segment,
            addresses=tuple(allowed or ()),
            trusted=allowed is None,
            secured=secured,
        )
        machine = Machine(self, name, nic.mac)
        self.hypervisor.start_guest(GuestSpec(name, hostname or name, (nic,), template))
        self.machines[name] = machine
        if address is not None:
            machine.configure([address], gateway)
        return machine

    def host(self, name: str, segment: str, addresses: Sequence[str], gateway: str | None = None) -> Machine:
        """A machine outside the tenants' networks, e.g. on the internet; ``addresses`` have prefix lengths."""
        if segment not in self.hypervisor.segments():
            self.hypervisor.ensure_segment(Segment(segment))
        machine = self.guest(segment, hostname=name)
        machine.configure(addresses, gateway)
        return machine

    def logs(self) -> dict[str, str]:
        """What agents and daemons of the routers printed, newest last, by router and file."""
        return {f"{router.id} {name}": text for router in self.routers.values() for name, text in router.logs().items()}


def validated(state: State, role: Role = "router") -> Any:
    """The state as its role's model."""
    if not isinstance(state, Mapping):
        return state
    return document_type(role).model_fields["state"].annotation.model_validate(state)  # type: ignore[union-attr]


@dataclass
class Instance:
    """What routers and machines have in common: commands run in them."""

    lab: Lab
    id: str

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 30, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it; raises CommandError on a non-zero status unless ``check`` is false.

        ``timeout`` is multiplied by the lab's patience.
        """
        return run(
            self.lab.hypervisor.command(self.id, argv), stdin=stdin, timeout=timeout * self.lab.patience, check=check
        )

    def ok(self, argv: Sequence[str], *, timeout: float = 30) -> bool:
        """Whether a command exits with 0."""
        return self.run(argv, timeout=timeout, check=False).returncode == 0

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command in it with pipes for output; the caller ends it (or the end of the lab does)."""
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
        return subprocess.Popen(self.lab.hypervisor.command(self.id, argv), **{**defaults, **options})

    def write(self, path: str, content: str) -> None:
        self.run(["tee", path], stdin=content)

    def read(self, path: str) -> str:
        return self.run(["cat", path]).stdout

    def processes(self) -> dict[int, str]:
        """Process number in the instance -> command line."""
        # one program for all of them: starting one each takes seconds where processors are emulated
        script = "head -v -c 4096 /proc/"
        text = self.run(["sh", "-c", f"{script}[0-9]*/cmdline"], check=False).stdout
        parts = re.split(r"\n?==> /proc/(\d+)/cmdline <==\n", text)[1:]
        found = {int(pid): line.replace("\0", " ").strip() for pid, line in zip(parts[::2], parts[1::2], strict=True)}
        return {pid: line for pid, line in found.items() if line and script not in line}

    def pids(self, text: str) -> list[int]:
        """Numbers of the processes whose command line contains ``text``."""
        return sorted(pid for pid, command in self.processes().items() if text in command and pid != 1)

    def kill(self, text: str, signal: str = "KILL") -> list[int]:
        """Send a signal to every process whose command line contains ``text``; which ones these were."""
        found = self.pids(text)
        assert found, f"nothing in {self.id} runs {text!r}: {self.processes()}"
        self.run(["kill", f"-{signal}", *map(str, found)])
        return found


@dataclass
class Router(Instance):
    """A router, or an appliance of another role, and the control plane's view of it."""

    address: str
    role: Role = "router"
    spec: ApplianceSpec = field(init=False)
    agent: AgentClient = field(init=False)
    generation: int = 0

    def __post_init__(self) -> None:
        self.agent = AgentClient(Agent(self.id, self.address), self.lab.authority, self.lab.hypervisor.connect)

    def start(self) -> None:
        """Power on; returns when the agent answers."""
        self.lab.hypervisor.start_appliance(self.spec)
        self.wait_agent()

    def wait_agent(self, timeout: float = 15) -> Status:
        return wait_for(self.agent.status, timeout * self.lab.patience, f"the agent of {self.id}")

    def stop(self, *, force: bool = False) -> None:
        self.lab.hypervisor.stop(self.id, force=force)

    def document(self, state: State) -> bytes:
        """The next generation's document as it travels."""
        self.generation += 1
        document = document_type(self.role)(
            kind=self.role, id=self.id, generation=self.generation, state=validated(state, self.role)
        )
        return document.model_dump_json(exclude_none=True).encode()

    def push(self, state: State, *, wait: float = 20) -> Status:
        """Push ``state`` as the next generation and wait for its end; it must have been applied."""
        status = self.push_document(self.document(state), wait=wait)
        assert status.generation == self.generation, f"{self.id}: {status.attempt}\n{self.text_logs()}"
        return status

    def push_document(self, document: bytes, *, wait: float = 20) -> Status:
        """Push bytes and return the status, whatever came of it."""
        return self.agent.push(document, wait=wait * self.lab.patience)

    def status(self) -> Status:
        return self.agent.status()

    def health(self) -> Health:
        return self.agent.health()

    def metrics(self) -> str:
        return self.agent.metrics()

    def wait_healthy(self, timeout: float = 10) -> Health:
        def healthy() -> Health | None:
            health = self.health()
            assert health.healthy, health
            return health

        found = wait_for(healthy, timeout * self.lab.patience, f"{self.id} to be healthy")
        assert found is not None
        return found

    def kill_agent(self) -> int:
        """Kill the agent without warning; its old process number."""
        return self.kill("appliance.agent")[0]

    def logs(self) -> dict[str, str]:
        """Console and each file of the log directory, the newest 200 lines."""
        logs = {"console": self.lab.hypervisor.console_log(self.id)}
        try:
            directory = self.lab.hypervisor.state_directory(self.id) / "log/gatehouse"
        except HypervisorError:
            return logs
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                logs[path.name] = path.read_text(errors="replace")
        return {name: "\n".join(text.splitlines()[-200:]) for name, text in logs.items() if text.strip()}

    def text_logs(self) -> str:
        return "\n".join(f"--- {name}\n{text}" for name, text in self.logs().items())


@dataclass
class Machine(Instance):
    """A guest, or a host outside."""

    mac: str

    def configure(self, addresses: Sequence[str], gateway: str | None = None, interface: str = "eth0") -> None:
        """Set addresses and default route by hand."""
        for address in addresses:
            self.run(["ip", "address", "replace", address, "dev", interface])
        self.run(["ip", "link", "set", interface, "up"])
        if gateway is not None:
            self.run(["ip", "route", "replace", "default", "via", gateway])

    def dhcp(self, interface: str = "eth0", *, timeout: float = 5) -> dict[str, str]:
        """Get a lease with udhcpc, set the interface up by it; what the server sent (names as in udhcpc's script).

        Raises AssertionError when there is no lease within ``timeout`` seconds.
        """
        self.run(["ip", "link", "set", interface, "up"])
        script = '#!/bin/sh\n/etc/guest/udhcpc "$@"\n[ "$1" = bound ] && env >/run/lease\nexit 0\n'
        self.write("/run/udhcpc", script)
        self.run(["chmod", "755", "/run/udhcpc"])
        tries = max(1, round(timeout))
        options = [word for code in (26, 119, 121) for word in ("-O", str(code))]
        argv = ["busybox", "udhcpc", "-n", "-q", "-i", interface, "-t", str(tries), "-T", "1", "-s", "/run/udhcpc"]
        done = self.run([*argv, *options], check=False, timeout=timeout + 5)
        assert done.returncode == 0, f"no lease for {self.id}: {done.stderr}"
        return dict(line.split("=", 1) for line in self.read("/run/lease").splitlines() if "=" in line)

    def ping(self, address: str, *, timeout: int = 1) -> bool:
        """Whether one echo is answered within ``timeout`` seconds."""
        return self.ok(["busybox", "ping", "-c", "1", "-W", str(timeout), address])

    def connects(self, address: str, port: int, *, timeout: float = 1) -> bool:
        """Whether a TCP connection can be made."""
        code = "import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))"
        return self.ok(["/usr/bin/python3", "-c", code, address, str(port), str(timeout)])

    def http(self, url: str, *options: str, timeout: float = 5) -> tuple[int, str]:
        """Status and body of a request by curl, with further ``options`` of it; status 0 when there is no answer."""
        argv = ["curl", "-s", "-m", str(timeout), "-w", "\n%{http_code}", *options, url]
        body, _, status = self.run(argv, check=False, timeout=timeout + 5).stdout.rpartition("\n")
        return int(status or 0), body

    def serve(self, port: int, body: str) -> None:
        """An HTTP server that answers every request with ``body`` and logs the client's address to /run/clients."""
        self.popen(
            web_server(port, body),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: self.connects("127.0.0.1", port), 5, f"the web server of {self.id}")

    def clients(self) -> list[str]:
        """Source addresses of the requests that the server got, oldest first."""
        return self.read(CLIENTS).split()
