"""A secondary-storage VM, and a machine of the internet that images come from."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from ssvm.services.storage.model.report import JobReport, Report
from tests.certificates import self_signed
from tests.netns.lab import REPOSITORY, Lab, Machine, Router
from tests.wait import wait_for

Raw = dict[str, Any]

SSVM, ORIGIN, INNER = "203.0.113.10", "203.0.113.50", "10.9.0.1"
NAME = "ssvm.example"
STORE = "/var/lib/gatehouse/store"
FILES = "/srv"


@dataclass
class World:
    """``state`` is what the SSVM has now; ``certificate`` is what it shows to clients."""

    lab: Lab
    ssvm: Router
    origin: Machine
    #: a machine of the management network, which serves the same files
    inner: Machine
    state: Raw
    certificate: str

    def push(self, **storage: Any) -> None:
        """Push the state, with fields of its storage section replaced for good."""
        self.state["storage"].update(storage)
        self.ssvm.push(copy.deepcopy(self.state))

    def add(self, kind: str = "download", **job: Any) -> str:
        """A new job in the document; its id."""
        id = f"job-{self.lab.number()}"
        entry = {"kind": kind, "id": id, "store": "primary", "path": f"objects/{id}", **job}
        self.push(jobs=[*self.state["storage"]["jobs"], entry])
        return id

    def remove(self, id: str) -> None:
        self.push(jobs=[job for job in self.state["storage"]["jobs"] if job["id"] != id])

    def download(self, name: str, host: str = ORIGIN, **job: Any) -> str:
        return self.add(**{"url": f"http://{host}:8000/{name}", "format": "qcow2", "size_limit": 1 << 30, **job})

    def report(self) -> Report:
        return Report.model_validate(self.ssvm.status().reports["storage"])

    def job(self, id: str) -> JobReport:
        [found] = [job for job in self.report().jobs if job.id == id]
        return found

    def report_or_none(self, id: str) -> JobReport | None:
        """The job, None while the worker does not answer."""
        reported = self.ssvm.status().reports.get("storage")
        found = Report.model_validate(reported).jobs if reported is not None else ()
        return next((job for job in found if job.id == id), None)

    def ended(self, id: str, timeout: float = 60) -> JobReport:
        """The job when it is done or failed."""

        def over() -> JobReport | None:
            job = self.job(id)
            assert job.state in ("done", "failed"), job
            return job

        found = wait_for(over, timeout, f"the end of {id}")
        assert found is not None
        return found

    def done(self, id: str, timeout: float = 60) -> JobReport:
        job = self.ended(id, timeout)
        assert job.state == "done", (job, self.ssvm.text_logs())
        return job

    def failed(self, id: str, cause: str, timeout: float = 60) -> str:
        """The job must have failed for that cause; what users are told."""
        job = self.ended(id, timeout)
        assert job.failure is not None and job.failure.cause == cause, job
        return job.failure.message

    @property
    def python(self) -> list[str]:
        """The interpreter that the tests run with, which machines see too."""
        return [sys.executable]

    def objects(self) -> list[str]:
        """Files of the store, parts among them."""
        found = self.ssvm.run(["find", STORE, "-type", "f"]).stdout.split()
        return [path.removeprefix(f"{STORE}/") for path in found]

    def sha256(self, machine: Machine | Router, path: str) -> str:
        return f"sha256:{machine.run(['sha256sum', path]).stdout.split()[0]}"

    def noise(self, name: str, size: int) -> str:
        """A file of random bytes at the origin; its path there."""
        path = f"{FILES}/{name}"
        self.origin.run(["sh", "-c", f"head -c {size} /dev/urandom >{path}"])
        return path

    def image(self, name: str, *options: str, format: str = "qcow2", size: str = "64M") -> str:
        """An image that qemu-img makes, at the origin; its path there."""
        path = f"{FILES}/{name}"
        self.origin.run(["qemu-img", "create", "-q", "-f", format, *options, path, size])
        return path


def serve(machine: Machine) -> None:
    machine.run(["mkdir", "-p", FILES])
    machine.popen(
        ["/usr/bin/python3", str(REPOSITORY / "tests/origin.py"), FILES, "8000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: machine.connects("127.0.0.1", 8000), 20, f"the web server of {machine.id}")


def build(lab: Lab) -> World:
    public, management = lab.segment("public"), lab.segment("management")
    certificate, key = self_signed(NAME)
    state: Raw = {
        "hostname": "s-1-vm",
        "interfaces": {
            "interfaces": [
                lab.control("eth0"),
                {
                    "name": "eth1",
                    "mac": lab.mac(),
                    "role": "public",
                    "addresses": [f"{SSVM}/24"],
                    "gateway": "203.0.113.1",
                },
                {"name": "eth2", "mac": lab.mac(), "role": "management", "addresses": ["10.9.0.2/24"]},
            ]
        },
        "storage": {
            "stores": [{"kind": "directory", "id": "primary", "path": STORE}],
            "certificate": {"certificate": certificate, "key": key},
            "stall": 3,
            "jobs": [],
            "links": [],
        },
    }
    ssvm = lab.router(
        state, role="ssvm", segments={"eth0": "control", "eth1": public, "eth2": management}, memory_mb=512
    )
    origin = lab.host("origin", public, [f"{ORIGIN}/24"])
    inner = lab.host("inner", management, [f"{INNER}/24"])
    for machine in (origin, inner):
        serve(machine)
    return World(lab, ssvm, origin, inner, state, certificate)
