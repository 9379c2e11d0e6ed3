"""The demo's small world: a control plane, the internet it is connected to, and two tenants with their guests."""

from __future__ import annotations

import base64
import shlex
import shutil
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cs import CloudStack

from appliance.run import run
from controlplane.convergence.push import Agent, AgentClient
from controlplane.hypervisors import syscalls
from controlplane.pki import Authority
from tests import wait
from tests.netns.controlplane.cloud import GATEHOUSE, WEB, Answer, Cloud
from tests.wait import wait_for
from tests.webserver import CLIENTS, web_server

RESOLVER = "198.51.100.53"


@dataclass
class Box:
    """Something commands run in: a guest, by ``gatehouse exec``, or a machine of the hypervisor's."""

    command: Sequence[str]

    def run(
        self, argv: Sequence[str], *, timeout: float = 20, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run([*self.command, *argv], timeout=timeout * wait.patience, stdin=stdin, check=False)

    def fetch(self, url: str, header: str = "X-Demo: yes") -> str:
        """The page at ``url`` by curl, "" when there is none within three seconds."""
        return self.run(["curl", "-s", "-f", "-m", str(3 * wait.patience), "-H", header, url]).stdout

    def connects(self, url: str) -> bool:
        """Whether anything answers at ``url`` within a second and a half."""
        limit = str(1.5 * wait.patience)
        # curl: 7 refused, 28 nothing came; every other status means that somebody was there
        return self.run(["curl", "-s", "-k", "-o", "/dev/null", "-m", limit, url]).returncode not in (7, 28)

    def background(self, argv: Sequence[str]) -> None:
        """Start a server; it ends with the box."""
        self.run(["setsid", "-f", "sh", "-c", f"exec {shlex.join(argv)} >/dev/null 2>&1 </dev/null"])

    def serve(self, page: str) -> None:
        """A web server on port 80 that answers with ``page`` and notes its clients in ``CLIENTS``."""
        self.background(web_server(80, page))
        wait_for(lambda: self.fetch("http://127.0.0.1/") == page, 5, "the web server")


@dataclass
class Internet(Box):
    """Everything outside: the public range's gateway, a web server and a resolver."""

    web: str = WEB

    def last_client(self) -> str:
        return self.run(["tail", "-n", "1", CLIENTS]).stdout.strip()

    def ssh(self, address: str, port: int, private_key: str, argv: Sequence[str]) -> str:
        """Standard output of a command over SSH with that key, "" when it could not log in."""
        self.run(["sh", "-c", "umask 077 && cat > /run/demo-key"], stdin=private_key)
        patience = f"ConnectTimeout={3 * wait.patience:.0f}"
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", patience, "BatchMode=yes"]
        words = [word for option in options for word in ("-o", option)]
        return self.run(
            ["ssh", "-q", "-i", "/run/demo-key", "-p", str(port), *words, f"root@{address}", *argv]
        ).stdout.strip()


@dataclass
class Guest(Box):
    """A tenant's virtual machine."""

    id: str
    name: str
    address: str
    user_data: str
    #: as the API gave it when the guest was made
    password: str

    def resolve(self, name: str) -> str:
        """The address of ``name``, asked for by dig; "" when there is none."""
        return self.run(["dig", "+short", name]).stdout.strip()

    def reverse(self, address: str) -> str:
        """The name of ``address``."""
        return self.run(["dig", "+short", "-x", address]).stdout.strip().removesuffix(".")

    def dhcp(self, interface: str = "eth0") -> None:
        """Get a lease with busybox's udhcpc and set the interface up by it."""
        self.run(["ip", "link", "set", interface, "up"])
        script = "/etc/guest/udhcpc"
        done = self.run(["busybox", "udhcpc", "-n", "-q", "-i", interface, "-t", "5", "-T", "1", "-s", script])
        assert done.returncode == 0, f"{self.name} got no lease: {done.stderr}"


@dataclass
class Tenant:
    """An account with one network and two guests: ``web`` boots by itself, ``shell`` is worked by hand."""

    name: str
    api: CloudStack
    network: dict[str, Any] = field(default_factory=dict)
    source_nat: dict[str, Any] = field(default_factory=dict)
    private_key: str = ""
    guests: list[Guest] = field(default_factory=list)
    router: dict[str, Any] = field(default_factory=dict)

    @property
    def web(self) -> Guest:
        return self.guests[0]

    @property
    def shell(self) -> Guest:
        return self.guests[1]


class Stage(Protocol):
    """What the hypervisor decides about the demo."""

    #: what runs routers and guests
    title: str
    cloud: Cloud
    #: what its guests have to work with
    guest: type[Guest]
    #: network namespace from which agents are reached
    control: Path

    def serve(self) -> None:
        """``gatehouse serve`` on a free port of loopback, with its embedded defaults."""

    def connect_internet(self) -> Internet:
        """A machine with the public range's gateway and a web server, on the public segment."""

    def router(self, router: Answer) -> Box:
        """Where somebody who looks after the router works in it."""


class World:
    """One data directory and all that runs from it; ``close`` removes it."""

    def __init__(self, directory: Path, stage: Stage) -> None:
        self.directory = directory
        self.stage, self.cloud = stage, stage.cloud
        self.tenants: list[Tenant] = []

    @property
    def data(self) -> Path:
        return self.cloud.data

    def serve(self) -> None:
        """Have the control plane."""
        self.stage.serve()
        self.admin = self.cloud.admin

    def connect_internet(self) -> None:
        """Plug a machine into the public segment that has the gateway, a web server and the zone's resolver."""
        self.internet = self.stage.connect_internet()
        self.internet.run(["ip", "address", "add", f"{RESOLVER}/32", "dev", "eth0"])
        options = ["--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root", f"--listen-address={RESOLVER}"]
        answer = f"--address=/www.internet.example/{WEB}"
        self.internet.background(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", *options, answer])
        zone = self.admin.listZones()["zone"][0]
        self.admin.updateZone(id=zone["id"], dns1=RESOLVER)

    def add_tenant(self, name: str) -> Tenant:
        """An account with API keys of its own and a network; every tenant's network has the same addresses."""
        tenant = Tenant(name, self.cloud.tenant(name))
        tenant.network = self.cloud.network(tenant.api, f"{name}-net")
        tenant.private_key = tenant.api.createSSHKeyPair(name="demo")["keypair"]["privatekey"]
        self.tenants.append(tenant)
        return tenant

    def deploy(self, tenant: Tenant, name: str, template: str, address: str) -> Guest:
        """Deploy a guest and wait until commands run in it."""
        user_data = f"#!demo\nI am {name} of {tenant.name}\n"
        templates = tenant.api.listTemplates(templatefilter="executable", name=template)["template"]
        vm = self.cloud.deploy(
            tenant.api,
            name,
            tenant.network,
            templateid=templates[0]["id"],
            ipaddress=address,
            keypair="demo",
            userdata=base64.b64encode(user_data.encode()).decode(),
        )
        assert vm["state"] == "Running", vm
        command = [*GATEHOUSE, "exec", "--data", str(self.data), vm["id"], "--"]
        guest = self.stage.guest(command, vm["id"], name, vm["nic"][0]["ipaddress"], user_data, vm.get("password", ""))
        wait_for(lambda: guest.run(["true"]).returncode == 0, 15, f"{name} to boot")
        tenant.guests.append(guest)
        return guest

    def look_up(self, tenant: Tenant) -> None:
        """Learn what the first guest brought about: the router and the source-NAT address."""
        tenant.network = tenant.api.listNetworks(id=tenant.network["id"])["network"][0]
        addresses = tenant.api.listPublicIpAddresses(associatednetworkid=tenant.network["id"])["publicipaddress"]
        tenant.source_nat = next(address for address in addresses if address["issourcenat"])
        tenant.router = self.cloud.router(tenant.network)

    def inside_router(self, tenant: Tenant) -> Box:
        return self.stage.router(tenant.router)

    def metrics(self, tenant: Tenant) -> str:
        """The router's Prometheus metrics, from its agent."""
        agent = AgentClient(
            Agent(tenant.router["id"], tenant.router["linklocalip"]),
            Authority(self.data / "pki"),
            self._connect,
        )
        try:
            return agent.metrics()
        finally:
            agent.close()

    def _connect(self, address: str, port: int, timeout: float) -> socket.socket:
        # a thread that ends goes into the network namespace for it; the process stays where it is
        def connected() -> socket.socket:
            with self.stage.control.open("rb") as file:
                syscalls.setns(file.fileno(), syscalls.CLONE_NEWNET)
            return socket.create_connection((address, port), timeout)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(connected).result()

    def close(self) -> None:
        """Stop the control plane and remove everything it made."""
        self.cloud.remove()
        shutil.rmtree(self.directory)
