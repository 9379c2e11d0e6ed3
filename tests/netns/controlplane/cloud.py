"""A whole control plane for tests: ``gatehouse serve`` as a process, the ``cs`` client, guests and an internet."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cs import CloudStack

from appliance.run import run
from controlplane.convergence.intent.rows import public_segment
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.wait import wait_for
from tests.webserver import web_server

GATEHOUSE = (sys.executable, "-m", "controlplane.cli")
SERVE = (*GATEHOUSE, "serve")
ISOLATED = "DefaultIsolatedNetworkOfferingWithSourceNatService"
INTERNET = "internet"
WEB, INTERNET_PAGE = "198.51.100.80", "the internet"

Answer = dict[str, Any]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Cloud:
    """One data directory and at most one process serving it."""

    #: seconds for the process to begin to answer
    start_patience = 60.0

    def __init__(self, directory: Path, serve: Sequence[str] = SERVE) -> None:
        self._serve = serve
        self.data = directory / "data"
        self.log = directory / "serve.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        # for commands inside guests only: the control plane owns the directory
        self.instances = NamespaceHypervisor(self.data / "namespace", data=self.data)
        self._keys: Answer = {}

    # --- the process ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve, and wait until the API answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._serve, "--data", str(self.data), "--listen", f"127.0.0.1:{self.port}"],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        wait_for(self._answers, self.start_patience, "the API to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"gatehouse serve ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def stop(self) -> int:
        """End it in good order; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL, at whatever it is doing."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status

    def remove(self) -> None:
        """End the process and destroy all that it ran."""
        if self.process is not None:
            self.kill()
        self.instances.open()
        self.instances.purge()

    def text_log(self) -> str:
        return self.log.read_text(errors="replace")

    # --- calls ------------------------------------------------------------------------------------------------

    @property
    def admin(self) -> CloudStack:
        """The administrator's client; it waits for jobs."""
        if not self._keys:
            self._keys = json.loads(run([*GATEHOUSE, "admin-keys", "--data", str(self.data)]).stdout)
        return self.client(self._keys["apikey"], self._keys["secretkey"])

    def client(self, key: str, secret: str, *, wait: bool = True) -> CloudStack:
        endpoint = f"http://127.0.0.1:{self.port}/client/api"
        return CloudStack(
            endpoint=endpoint, key=key, secret=secret, fetch_result=wait, poll_interval=0.05, job_timeout=120
        )

    @property
    def sender(self) -> CloudStack:
        """The administrator's client that does not wait for jobs."""
        self.admin  # noqa: B018 - reads the keys
        return self.client(self._keys["apikey"], self._keys["secretkey"], wait=False)

    def tenant(self, name: str) -> CloudStack:
        """A client of a new account."""
        password = secrets.token_hex(8)
        names = {"email": f"{name}@example.org", "firstname": name, "lastname": "T", "username": name}
        made = self.admin.createAccount(accounttype=0, account=name, password=password, **names)
        keys = self.admin.registerUserKeys(id=made["account"]["user"][0]["id"])["userkeys"]
        return self.client(keys["apikey"], keys["secretkey"])

    def network(self, api: CloudStack, name: str, **more: Any) -> Answer:
        """A new isolated network, with the zone's default CIDR unless ``more`` says otherwise."""
        zone = api.listZones()["zone"][0]["id"]
        offering = api.listNetworkOfferings(name=ISOLATED)["networkoffering"][0]["id"]
        answer = api.createNetwork(name=name, displaytext=name, zoneid=zone, networkofferingid=offering, **more)
        made: Answer = answer["network"]
        return made

    def placement(self, api: CloudStack) -> Answer:
        """Parameters that every deployVirtualMachine needs."""
        return {
            "zoneid": api.listZones()["zone"][0]["id"],
            "serviceofferingid": api.listServiceOfferings()["serviceoffering"][0]["id"],
            "templateid": api.listTemplates(templatefilter="featured")["template"][0]["id"],
        }

    def deploy(self, api: CloudStack, name: str, network: Answer, **more: Any) -> Answer:
        """A new guest, running."""
        answer = api.deployVirtualMachine(name=name, networkids=network["id"], **(self.placement(api) | more))
        vm: Answer = answer["virtualmachine"]
        return vm

    def router(self, network: Answer) -> Answer:
        """The network's router as the administrator sees it."""
        [router] = self.admin.listRouters(networkid=network["id"], listall="true")["router"]
        found: Answer = router
        return found

    def events(self, type: str) -> list[str]:
        return [event["description"] for event in self.admin.listEvents(type=type).get("event", [])]

    def jobs(self, ids: Iterable[str]) -> dict[str, int]:
        """Status of each job: 0 pending, 1 succeeded, 2 failed."""
        sender = self.sender
        return {id: int(sender.queryAsyncJobResult(jobid=id)["jobstatus"]) for id in ids}

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What the control plane's tables say, read from beside it."""
        with sqlite3.connect(self.data / "gatehouse.db") as database:
            return database.execute(statement).fetchall()

    # --- inside -----------------------------------------------------------------------------------------------

    def run(
        self, instance: str, argv: Sequence[str], *, check: bool = True, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a guest, a router or the internet."""
        return run(self.instances.command(instance, argv), check=check, timeout=timeout)

    def address(self, vm: str, timeout: float = 15) -> str:
        """The address that a guest got by DHCP, once it has one."""

        def leased() -> str:
            words = self.run(vm, ["ip", "-4", "-o", "address", "show", "eth0"], check=False).stdout.split()
            return words[3].split("/")[0] if len(words) > 3 else ""

        return wait_for(leased, timeout, f"the lease of {vm}")

    def fetch(self, instance: str, url: str, timeout: float = 2) -> str:
        """The page at ``url``, "" when there is none."""
        return self.run(instance, ["curl", "-s", "-f", "-m", str(timeout), url], check=False).stdout

    def serve_page(self, instance: str, page: str, port: int = 80) -> None:
        """A web server in a guest that answers with ``page``."""
        argv = self.instances.command(instance, ["setsid", "-f", *web_server(port, page)])
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        wait_for(lambda: self.fetch(instance, f"http://127.0.0.1:{port}/") == page, 10, "the web server")

    def connect_internet(self) -> None:
        """Put a machine with the public range's gateway and a web server on the public segment."""
        public = self.admin.listVlanIpRanges()["vlaniprange"][0]
        segment = public_segment(public["physicalnetworkid"], public["vlan"])
        self.place(INTERNET, segment, "02:00:5e:00:53:01", [f"{public['gateway']}/24", f"{WEB}/32"])
        self.serve_page(INTERNET, INTERNET_PAGE)

    def place(self, name: str, segment: str, mac: str, addresses: Sequence[str]) -> None:
        """Put a machine with these addresses on a segment.

        Only who owns the hypervisor's directory can do so: the control plane is stopped meanwhile.
        """
        self.stop()
        owner = NamespaceHypervisor(self.data / "namespace", data=self.data)
        owner.open()
        try:
            owner.ensure_segment(Segment(segment))
            owner.start_guest(GuestSpec(name, name, (Nic(mac, segment, trusted=True),), "bare"))
        finally:
            owner.close()
        for address in addresses:
            self.run(name, ["ip", "address", "add", address, "dev", "eth0"])
        self.run(name, ["ip", "link", "set", "eth0", "up"])
        self.start()


@contextmanager
def connected(serve: Sequence[str] = SERVE) -> Iterator[Cloud]:
    """A control plane, of the command ``serve``, with an internet, until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-cloud-"))
    made = Cloud(directory, serve)
    try:
        made.start()
        made.connect_internet()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)


def seconds(since: float) -> float:
    return round(time.monotonic() - since, 2)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
