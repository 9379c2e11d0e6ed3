"""A worker that is killed a hundred times while it downloads, converts, takes an upload and copies.

Here it is started by the test alone, without a supervisor that would wait longer each time; nothing else differs.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.settings import Settings
from ssvm.document import SsvmState
from ssvm.services.storage.model.report import JobReport, Report
from ssvm.services.storage.render import SANDBOX, config_file, configuration
from tests.certificates import self_signed
from tests.netns.lab import REPOSITORY, Lab, Machine
from tests.netns.ssvm.world import FILES, NAME, ORIGIN, serve
from tests.wait import wait_for

Raw = dict[str, Any]

KILLS = 25
MEGA = 1 << 20
HERE, THERE = "203.0.113.10", "203.0.113.11"
SETTINGS = Settings(config_dir=Path("/srv/etc"), run_dir=Path("/run/worker"), state_dir=Path("/srv/state"))
OBJECTS = "/srv/store/objects"
_ASK = "import sys, json; from appliance.inquiry import ask; print(json.dumps(ask(sys.argv[1])))"


class Worker:
    """A worker on a machine of its own; ``id`` is its name among SSVMs."""

    def __init__(self, lab: Lab, segment: str, address: str) -> None:
        self.lab, self.address, self.id = lab, address, f"s-{lab.number()}"
        self.settings = SETTINGS
        self.machine = lab.host("worker", segment, [f"{address}/24"])
        self.machine.run(["mkdir", "-p", "/srv/etc/storage", "/run/worker/storage", "/srv/state/storage", "/srv/store"])
        peer, (certificate, key) = lab.authority.issue_peer(self.id), self_signed(NAME)
        nic = {"name": "eth0", "mac": lab.mac(), "role": "public", "addresses": [f"{address}/24"]}
        self.state: Raw = {
            "hostname": "worker",
            "interfaces": {"interfaces": [lab.control("eth9"), nic]},
            "storage": {
                "stores": [{"kind": "directory", "id": "primary", "path": "/srv/store"}],
                "certificate": {"certificate": certificate, "key": key},
                "peer": {
                    "certificate": peer.certificate.decode(),
                    "key": peer.key.decode(),
                    "ca": lab.authority.certificate.decode(),
                },
                "bandwidth": 16 * MEGA,
                "retries": 100,
                "jobs": [],
                "links": [],
            },
        }
        self._python = ["/usr/bin/env", "-C", str(REPOSITORY), sys.executable]
        self._run("-m", "ssvm.formats.sandbox", SANDBOX, "root")
        self.configure()

    def _run(self, *argv: str) -> None:
        self.machine.popen([*self._python, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def configure(self, **storage: Any) -> None:
        """What the next start reads."""
        self.state["storage"].update(storage)
        state = SsvmState.model_validate(self.state)
        assert state.storage is not None
        text = json.dumps(configuration(state, state.storage, self.settings))
        self.machine.write(str(config_file(self.settings)), text)

    def job(self, kind: str, **job: Any) -> str:
        """The only job from the next start on; its id."""
        id = f"job-{self.lab.number()}"
        given = {"kind": kind, "id": id, "store": "primary", "path": f"objects/{id}", **job}
        self.configure(jobs=[given])
        return id

    def start(self) -> None:
        self._run("-m", "ssvm.services.storage.worker", str(config_file(SETTINGS)))

    def become_another(self) -> None:
        """From the next start on it is another SSVM, which has the same store and knows nothing of what was before."""
        self.settings = replace(SETTINGS, state_dir=Path(f"/srv/state-{self.lab.number()}"))
        self.machine.run(["mkdir", "-p", f"{self.settings.state_dir}/storage"])
        self.configure()

    def kill(self) -> None:
        self.machine.run(["pkill", "-KILL", "-f", "ssvm.services.storage.worker"], check=False)
        wait_for(lambda: not self.machine.pids("ssvm.services.storage.worker"), 10, "the end of the worker")

    def report(self) -> JobReport | None:
        """The job, None while nobody answers."""
        done = self.machine.run([*self._python, "-c", _ASK, "/run/worker/storage/worker.sock"], check=False)
        if done.returncode:
            return None
        jobs = Report.model_validate(json.loads(done.stdout)["report"]).jobs
        return jobs[0] if jobs else None

    def files(self) -> list[str]:
        return self.machine.run(["find", "/srv/store", "-type", "f"]).stdout.split()

    def there(self, id: str) -> bool:
        return f"{OBJECTS}/{id}" in self.files()

    def sha256(self, id: str) -> str:
        return f"sha256:{self.machine.run(['sha256sum', f'{OBJECTS}/{id}']).stdout.split()[0]}"

    def done(self, id: str) -> JobReport:
        """Let the worker, which runs, finish."""

        def over() -> JobReport | None:
            found = self.report()
            return found if found is not None and found.state in ("done", "failed") else None

        job = wait_for(over, 120, f"the end of {id}", interval=0.2)
        assert job is not None and job.state == "done", job
        assert self.files().count(f"{OBJECTS}/{id}") == 1
        assert [path for path in self.files() if "/.parts/" in path and id in path] == []
        return job


@pytest.fixture(scope="module")
def segment(lab: Lab) -> str:
    return lab.segment("public")


@pytest.fixture(scope="module")
def worker(lab: Lab, segment: str) -> Worker:
    return Worker(lab, segment, HERE)


@pytest.fixture(scope="module")
def origin(lab: Lab, segment: str) -> Machine:
    machine = lab.host("origin", segment, [f"{ORIGIN}/24"])
    serve(machine)
    # half of it is noise, so that unpacking and converting take a while and have something to compress
    machine.run(["sh", "-c", f"for i in $(seq 12); do head -c 2M /dev/urandom; yes $i | head -c 2M; done >{FILES}/raw"])
    machine.run(["sh", "-c", f"cd {FILES} && gzip -1 -k raw && qemu-img convert -f raw -O qcow2 raw image"])
    return machine


def sha256(machine: Machine, path: str) -> str:
    return f"sha256:{machine.run(['sha256sum', path]).stdout.split()[0]}"


def lives(worker: Worker, id: str, wanted: str | None, chance: random.Random, longest: float) -> tuple[int, bool]:
    """Start and kill until the job is done or nobody is left to be killed; kills, and whether it was done before.

    After each kill there is the whole object or none.
    """
    for kills in range(KILLS):
        worker.start()
        time.sleep(chance.uniform(0.3, longest))  # the point of it: a kill at any time
        ended = (found := worker.report()) is not None and found.state == "done"
        worker.kill()
        if worker.there(id):
            assert wanted is None or worker.sha256(id) == wanted
            if ended:
                return kills + 1, True
        assert not ended, "it is done, and nothing is there"
    return KILLS, False


def many(worker: Worker, make: Any, wanted: str | None, longest: float, seed: int) -> list[str]:
    """Kill ``KILLS`` times over as many jobs as it takes; all of them are done in the end."""
    chance, kills, made = random.Random(seed), 0, []
    while kills < KILLS:
        id = make()
        made.append(id)
        more, ended = lives(worker, id, wanted, chance, longest)
        kills += more
        if not ended:
            worker.start()
            worker.done(id)
            worker.kill()
        assert wanted is None or worker.sha256(id) == wanted
    return made


def test_downloads(worker: Worker, origin: Machine) -> None:
    wanted = sha256(origin, f"{FILES}/raw")
    job = {"url": f"http://{ORIGIN}:8000/raw", "format": "raw", "size_limit": 1 << 30}
    many(worker, lambda: worker.job("download", **job), wanted, 2.5, 1)


def test_another_goes_on_with_the_job_of_one_that_was_killed(worker: Worker, origin: Machine) -> None:
    """The part is in the store, so what came is not asked for again."""
    wanted = sha256(origin, f"{FILES}/raw")
    id = worker.job("download", url=f"http://{ORIGIN}:8000/raw", format="raw", size_limit=1 << 30, checksum=wanted)
    worker.start()
    wait_for(lambda: (found := worker.report()) is not None and found.received > 8 * MEGA, 30, "the first bytes")
    worker.kill()
    have = int(worker.machine.run(["stat", "-c", "%s", f"/srv/store/.parts/{id}.data"]).stdout)
    assert have > 8 * MEGA
    worker.become_another()
    worker.start()
    received = wait_for(lambda: (found := worker.report()) is not None and found.received, 30, "it to go on")
    assert received >= have
    worker.done(id)
    assert worker.sha256(id) == wanted
    worker.kill()


def test_conversions(worker: Worker, origin: Machine) -> None:
    """A packed image: fetched, unpacked, looked at, converted, put."""
    job = {"url": f"http://{ORIGIN}:8000/raw.gz", "format": "raw", "convert": "qcow2", "size_limit": 1 << 30}
    worker.configure(bandwidth=None)
    made = many(worker, lambda: worker.job("download", **job), None, 4.0, 2)
    worker.configure(bandwidth=16 * MEGA)
    wanted = sha256(origin, f"{FILES}/raw")
    for id in made:
        worker.machine.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", f"{OBJECTS}/{id}", "/srv/back"])
        assert sha256(worker.machine, "/srv/back") == wanted


def test_uploads(worker: Worker, origin: Machine) -> None:
    """What was answered with success is never asked for again; what was not may be sent again."""
    wanted, chance = sha256(origin, f"{FILES}/image"), random.Random(3)
    kills = 0
    while kills < KILLS:
        token = secrets.token_urlsafe(32)
        expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        hashed = hashlib.sha256(token.encode()).hexdigest()
        job = {"format": "qcow2", "size_limit": 1 << 30, "token_hash": hashed, "expires": expires}
        id = worker.job("upload", **job)
        sent = False
        while not worker.there(id):
            worker.start()
            wait_for(lambda: origin.connects(HERE, 443), 20, "the port")
            if not sent:
                options = ["-sk", "-m", "20", "--limit-rate", "40M", "-o", "/dev/null", "-w", "%{http_code}"]
                body = ["-H", f"X-signature: {token}", "--data-binary", f"@{FILES}/image"]
                send = origin.popen(["curl", *options, *body, f"https://{HERE}/upload/{id}"])
            time.sleep(chance.uniform(0.1, 2.2))
            worker.kill()
            kills += 1
            sent = sent or send.communicate(timeout=30)[0] == "200"
            assert not worker.there(id) or worker.sha256(id) == wanted
        worker.start()
        worker.done(id)
        worker.kill()
        assert worker.sha256(id) == wanted


def test_copies(lab: Lab, segment: str, worker: Worker, origin: Machine) -> None:
    """Both ends are killed, in turn by chance."""
    source, chance = Worker(lab, segment, THERE), random.Random(4)
    image = source.job("download", url=f"http://{ORIGIN}:8000/image", format="qcow2", size_limit=1 << 30)
    source.start()
    result = source.done(image).result
    assert result is not None
    expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    link = {"id": "link", "store": "primary", "path": f"objects/{image}", "peer": worker.id, "expires": expires}
    source.kill()
    source.configure(jobs=[], links=[link])
    source.start()
    given = {"peer": source.id, "checksum": result.object_checksum, "size": result.physical_size, "format": "qcow2"}
    kills = 0
    while kills < KILLS:
        id = worker.job("copy", url=f"https://{THERE}:8443/peer/link", **given)
        worker.start()
        while kills < KILLS and ((found := worker.report()) is None or found.state != "done"):
            time.sleep(chance.uniform(0.2, 2.5))
            victim = chance.choice([worker, source])
            victim.kill()
            kills += 1
            assert not worker.there(id) or worker.sha256(id) == result.object_checksum
            victim.start()
        assert worker.done(id).result == result
        assert worker.sha256(id) == result.object_checksum
        worker.kill()
    source.kill()
