"""The demo's small world: a control plane, the internet it is connected to, and two tenants with their guests."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from cs import CloudStack

from appliance.run import run
from controlplane.api.server import create_app
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.intent import public_segment
from controlplane.push import Agent, AgentClient
from controlplane.runtime import Runtime
from tests.wait import wait_for

#: the demo's internet, from the ranges for documentation (RFC 5737)
GATEWAY, WEB, RESOLVER = "203.0.113.1", "198.51.100.80", "198.51.100.53"
INTERNET_PAGE = "the internet"

GATEHOUSE = (sys.executable, "-m", "controlplane.cli")
ISOLATED = "DefaultIsolatedNetworkOfferingWithSourceNatService"


@dataclass
class Box:
    """Something commands run in: a guest, by ``gatehouse exec``, or the internet."""

    command: Sequence[str]

    def run(
        self, argv: Sequence[str], *, timeout: float = 20, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run([*self.command, *argv], timeout=timeout, stdin=stdin, check=False)

    def fetch(self, url: str) -> str:
        """The page at ``url`` by curl, "" when there is none within three seconds."""
        return self.run(["curl", "-s", "-f", "-m", "3", url]).stdout

    def connects(self, url: str) -> bool:
        """Whether anything answers at ``url`` within a second and a half."""
        # curl: 7 refused, 28 nothing came; every other status means that somebody was there
        return self.run(["curl", "-s", "-k", "-o", "/dev/null", "-m", "1.5", url]).returncode not in (7, 28)

    def background(self, argv: Sequence[str]) -> None:
        """Start a server; it ends with the box."""
        self.run(["setsid", "-f", "sh", "-c", f"exec {shlex.join(argv)} >/dev/null 2>&1 </dev/null"])

    def serve(self, page: str, *, log: str = "/run/clients") -> None:
        """A web server on port 80 that answers with ``page``."""
        self.background(["/usr/bin/python3", "-c", _SERVER, page, log])
        wait_for(lambda: self.fetch("http://127.0.0.1/") == page, 5, "the web server")


@dataclass
class Internet(Box):
    """Everything outside: the public range's gateway, a web server and a resolver."""

    web: str = WEB

    def last_client(self) -> str:
        return self.run(["tail", "-n", "1", "/run/clients"]).stdout.strip()

    def ssh(self, address: str, port: int, private_key: str, argv: Sequence[str]) -> str:
        """Standard output of a command over SSH with that key, "" when it could not log in."""
        self.run(["sh", "-c", "umask 077 && cat > /run/demo-key"], stdin=private_key)
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "ConnectTimeout=3", "BatchMode=yes"]
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

    def dhcp(self, interface: str = "eth0") -> None:
        """Get a lease with busybox's udhcpc and set the interface up by it."""
        self.run(["ip", "link", "set", interface, "up"])
        script = "/etc/guest/udhcpc"
        done = self.run(["busybox", "udhcpc", "-n", "-q", "-i", interface, "-t", "5", "-T", "1", "-s", script])
        assert done.returncode == 0, f"{self.name} got no lease: {done.stderr}"

    def start_ssh(self) -> None:
        """Wait for the SSH server that the template starts."""
        wait_for(lambda: self.run(["sh", "-c", "ss -ltn | grep -q :22"]).returncode == 0, 10, f"sshd of {self.name}")


@dataclass
class Tenant:
    """An account with one network and two guests."""

    name: str
    api: CloudStack
    network: dict[str, Any] = field(default_factory=dict)
    source_nat: dict[str, Any] = field(default_factory=dict)
    private_key: str = ""
    guests: list[Guest] = field(default_factory=list)
    router_id: str = ""
    router_control: str = ""

    @property
    def web(self) -> Guest:
        return self.guests[0]

    @property
    def shell(self) -> Guest:
        return self.guests[1]


class World:
    """Made by ``open``; ``close`` removes all of it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.runtime = Runtime(data)
        self.tenants: list[Tenant] = []
        self.endpoint = ""
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    # --- the control plane

    def serve(self) -> None:
        """Start the control plane on a free port of loopback, with its embedded defaults."""
        self.runtime.open()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(create_app(self.runtime), host="127.0.0.1", port=port, lifespan="off", log_config=None)
        )
        self._thread = threading.Thread(target=self._server.run, name="api", daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{port}/client/api"
        wait_for(lambda: self._server is not None and self._server.started, 10, "the API to listen")
        keys = self.gatehouse("admin-keys")
        self.admin = self.client(keys["apikey"], keys["secretkey"])

    def gatehouse(self, *words: str) -> dict[str, Any]:
        """The JSON that a ``gatehouse`` command prints."""
        answer: dict[str, Any] = json.loads(run([*GATEHOUSE, *words, "--data", str(self.data)]).stdout)
        return answer

    def client(self, key: str, secret: str) -> CloudStack:
        """A client that waits for jobs and raises on errors."""
        return CloudStack(endpoint=self.endpoint, key=key, secret=secret, fetch_result=True, poll_interval=0.05)

    # --- the internet

    def connect_internet(self) -> None:
        """Plug a machine into the public segment that has the gateway, a web server and a resolver."""
        zone = self.admin.listZones()["zone"][0]
        public = self.admin.listVlanIpRanges(zoneid=zone["id"])["vlaniprange"][0]
        assert public["gateway"] == GATEWAY, public
        segment = public_segment(public["physicalnetworkid"], public["vlan"])
        hypervisor = self.runtime.hypervisor
        hypervisor.ensure_segment(Segment(segment))
        nic = Nic("02:00:5e:00:53:01", segment)
        hypervisor.start_guest(GuestSpec("internet", "internet", (nic,), "bare"))
        assert isinstance(hypervisor, NamespaceHypervisor)
        self.internet = Internet(hypervisor.command("internet", []))
        for address in (f"{GATEWAY}/24", f"{WEB}/32", f"{RESOLVER}/32"):
            self.internet.run(["ip", "address", "add", address, "dev", "eth0"])
        self.internet.run(["ip", "link", "set", "eth0", "up"])
        self.internet.serve(INTERNET_PAGE)
        self.internet.background(
            [
                "dnsmasq",
                "-k",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                f"--listen-address={RESOLVER}",
                "--bind-interfaces",
                "--user=root",
                f"--address=/www.internet.example/{WEB}",
            ]
        )
        self.admin.updateZone(id=zone["id"], dns1=RESOLVER)
        self.zone = self.admin.listZones()["zone"][0]

    # --- the tenants

    def add_tenant(self, name: str) -> Tenant:
        """An account with API keys of its own and a network; every tenant's has the same addresses."""
        account = self.admin.createAccount(
            username=name,
            account=name,
            firstname=name,
            lastname="demo",
            email=f"{name}@example.org",
            password=secrets.token_urlsafe(12),
            accounttype=0,
        )["account"]
        keys = self.admin.registerUserKeys(id=account["user"][0]["id"])["userkeys"]
        tenant = Tenant(name, self.client(keys["apikey"], keys["secretkey"]))
        offering = self._named(self.admin.listNetworkOfferings(), "networkoffering", ISOLATED)
        tenant.network = tenant.api.createNetwork(
            name=f"{name}-net",
            displaytext=f"{name}'s network",
            zoneid=self.zone["id"],
            networkofferingid=offering["id"],
            networkdomain=f"{name}.example",
        )["network"]
        tenant.private_key = tenant.api.createSSHKeyPair(name="demo")["keypair"]["privatekey"]
        self.tenants.append(tenant)
        return tenant

    def deploy(self, tenant: Tenant, name: str, template: str, address: str) -> Guest:
        """Deploy a guest and wait until the API calls it running."""
        user_data = f"#!demo\nI am {name} of {tenant.name}\n"
        vm = tenant.api.deployVirtualMachine(
            zoneid=self.zone["id"],
            serviceofferingid=self.admin.listServiceOfferings()["serviceoffering"][0]["id"],
            templateid=self._named(tenant.api.listTemplates(templatefilter="executable"), "template", template)["id"],
            networkids=tenant.network["id"],
            name=name,
            ipaddress=address,
            keypair="demo",
            userdata=base64.b64encode(user_data.encode()).decode(),
        )["virtualmachine"]
        assert vm["state"] == "Running", vm
        guest = Guest(
            [*GATEHOUSE, "exec", "--data", str(self.data), vm["id"], "--"],
            vm["id"],
            name,
            vm["nic"][0]["ipaddress"],
            user_data,
            vm.get("password", ""),
        )
        tenant.guests.append(guest)
        return guest

    def look_up(self, tenant: Tenant) -> None:
        """Learn what the first guest brought about: the router and the source-NAT address."""
        tenant.network = tenant.api.listNetworks(id=tenant.network["id"])["network"][0]
        addresses = tenant.api.listPublicIpAddresses(associatednetworkid=tenant.network["id"])["publicipaddress"]
        tenant.source_nat = next(address for address in addresses if address["issourcenat"])
        router = self.admin.listRouters(networkid=tenant.network["id"], listall="true")["router"][0]
        tenant.router_id, tenant.router_control = router["id"], router["linklocalip"]

    def router(self, tenant: Tenant) -> Box:
        assert isinstance(self.runtime.hypervisor, NamespaceHypervisor)
        return Box(self.runtime.hypervisor.command(tenant.router_id, []))

    def metrics(self, tenant: Tenant) -> str:
        """The router's Prometheus metrics, from its agent."""
        core = self.runtime.core
        agent = AgentClient(Agent(tenant.router_id, tenant.router_control), core.authority, core.hypervisor.connect)
        try:
            return agent.metrics()
        finally:
            agent.close()

    def close(self) -> None:
        """Stop the control plane and remove everything it made."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(10)
        hypervisor = self.runtime.hypervisor
        self.runtime.close()
        assert isinstance(hypervisor, NamespaceHypervisor)
        hypervisor.open()
        hypervisor.purge()
        shutil.rmtree(self.data)

    @staticmethod
    def _named(answer: dict[str, Any], key: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(entry for entry in answer[key] if entry["name"] == name)
        return found


_SERVER = """
import http.server, sys
body = sys.argv[1].encode()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(sys.argv[2], "a") as file: print(self.client_address[0], file=file)
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
"""
