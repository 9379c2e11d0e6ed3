"""What the agent answers, on an engine over a made-up machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appliance.agent.api import Api
from appliance.agent.server import Request, Response
from appliance.agent.tls import CertificateRefusedError
from appliance.agent.worker import Prober, Worker
from appliance.engine.engine import Engine
from appliance.schema.envelope import ControlInterface, Identity
from appliance.schema.status import Health, Status
from tests.unit.appliance.engine.world import World, document, make_engine, watched
from tests.wait import wait_for

CONTROL = ControlInterface(mac="02:00:00:00:00:01", name="eth1", address="169.254.1.1/16")


class FakeCertificates:
    def __init__(self) -> None:
        self.installed: list[bytes] = []

    def install(self, certificate: bytes) -> None:
        if certificate != b"good":
            raise CertificateRefusedError("certificate not taken: bad")
        self.installed.append(certificate)


@dataclass
class Agent:
    world: World
    engine: Engine
    api: Api
    certificates: FakeCertificates
    #: what is wrong with the state disk
    disk: list[str]

    def put(self, body: bytes, **headers: str) -> Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.handle(Request("PUT", "/v1/state", names, body))

    def get(self, path: str) -> Response:
        return self.api.handle(Request("GET", path))

    def status(self) -> Status:
        return Status.model_validate_json(self.get("/v1/status").body)

    def health(self) -> Health:
        return Health.model_validate_json(self.get("/v1/health").body)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    world = World(tmp_path)
    with watched(world):
        engine = make_engine(world)
        prober = Prober(engine, 0.02)
        worker = Worker(engine, prober, 1000)
        worker.start()
        prober.start()
        certificates = FakeCertificates()
        identity, disk = Identity(id="r-1", role="router", control=CONTROL), [""]
        api = Api(identity, engine, worker, prober, certificates, state_disk=lambda: disk[-1])  # type: ignore[arg-type]
        yield Agent(world, engine, api, certificates, disk)


def test_a_document_is_applied_and_reported(agent: Agent) -> None:
    answer = agent.put(document(1, a=1), prefer="wait=10")
    assert answer.status == 200
    status = Status.model_validate_json(answer.body)
    assert status == agent.status()
    assert (status.id, status.generation, status.applying) == ("r-1", 1, None)
    assert status.digest == hashlib.sha256(document(1, a=1)).hexdigest()
    assert status.attempt is not None
    assert status.attempt.outcome == "applied"
    assert agent.put(document(1, a=1), prefer="respond-async, wait=10").status == 200


def held_until(release: threading.Event) -> Callable[[str], None]:
    """Holds the engine up in the middle of a transaction."""

    def fault(step: str) -> None:
        if step == "apply a":
            release.wait(10)

    return fault


def test_without_wait_the_answer_comes_at_once(agent: Agent) -> None:
    release = threading.Event()
    agent.world.fault = held_until(release)
    assert agent.put(document(1, a=1)).status == 202
    assert agent.status().applying == 1
    assert agent.put(document(1, a=1), prefer="wait=0").status == 202
    release.set()
    assert wait_for(lambda: agent.status().generation == 1, 10)


def test_of_documents_that_wait_the_newest_is_applied(agent: Agent) -> None:
    release = threading.Event()
    agent.world.fault = held_until(release)
    for generation in range(1, 6):
        assert agent.put(document(generation, a=generation)).status == 202
    assert agent.put(document(3, a=3)).status == 409
    agent.world.log.clear()
    release.set()
    assert agent.put(document(5, a=5), prefer="wait=10").status == 200
    assert agent.engine.applied.generation == 5
    assert agent.world.log.count("netfilter apply") <= 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (document(1, a=1).replace(b'"a": 1', b'"a": []'), "a"),
        (document(0), "generation"),
        (document(1).replace(b"router", b"ssvm"), "kind"),
        (b"", ""),
        (b"null", ""),
        (document(1) + b"}", ""),
        (b'{"kind": "router"}', "id"),
    ],
)
def test_bad_documents_are_422_with_the_field(agent: Agent, body: bytes, field: str) -> None:
    answer = agent.put(body, prefer="wait=10")
    problems = json.loads(answer.body)["problems"]
    assert answer.status == 422
    assert field in [problem["field"] for problem in problems]
    assert problems[0].keys() == {"stage", "service", "field", "message"}
    assert agent.status().attempt is None


def test_documents_for_others_and_older_ones_are_409(agent: Agent) -> None:
    assert agent.put(document(2, a=1), prefer="wait=10").status == 200
    assert agent.put(document(1, a=1)).status == 409
    assert agent.put(document(2, a=2)).status == 409
    assert agent.put(document(3).replace(b"r-1", b"r-2")).status == 409
    assert agent.status().generation == 2


def test_a_failure_is_told_with_the_status(agent: Agent) -> None:
    status = Status.model_validate_json(agent.put(document(1, b=404), prefer="wait=10").body)
    assert status.generation == 0
    assert status.attempt is not None
    assert [(problem.stage, problem.service) for problem in status.attempt.problems] == [("probe", "b")]
    # the same again is another try
    assert agent.put(document(1, b=404), prefer="wait=10").status == 200
    assert agent.put(document(2, b=4), prefer="wait=10").status == 200
    assert agent.status().generation == 2


def test_the_digest_is_checked(agent: Agent) -> None:
    body = document(1, a=1)
    right = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert agent.put(body, content_digest=f"sha-256=:{right[::-1]}:").status == 400
    assert agent.put(body, content_digest=f"sha-512=:AAAA:, sha-256=:{right}:").status == 202


def test_health_follows_the_probes(agent: Agent) -> None:
    assert agent.health().services == {}
    agent.put(document(1, a=1, b=1), prefer="wait=10")
    assert wait_for(agent.health, 5).healthy
    daemon = agent.world.daemons.pop("bd")
    wait_for(lambda: agent.get("/v1/health").status == 503, 5)
    health = agent.health()
    assert (health.healthy, health.services["a"].healthy, health.services["b"].healthy) == (False, True, False)
    agent.world.daemons["bd"] = daemon
    wait_for(lambda: agent.get("/v1/health").status == 200, 5)


def test_metrics(agent: Agent) -> None:
    agent.put(document(7, a=1), prefer="wait=10")
    wait_for(lambda: agent.health().services, 5)
    answer = agent.get("/v1/metrics")
    text = answer.body.decode()
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert "\ngatehouse_generation 7\n" in text
    assert 'gatehouse_service_healthy{service="a"} 1\n' in text
    assert 'gatehouse_attempt_stage_seconds{stage="files"} ' in text
    for line in text.splitlines():
        assert line.startswith("# ") or float(line.split(" ")[-1]) >= 0, line


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/state", 405), ("DELETE", "/v1/status", 405), ("PUT", "/v1/status/", 404)],
)
def test_what_does_not_exist(agent: Agent, method: str, path: str, status: int) -> None:
    assert agent.api.handle(Request(method, path)).status == status


def test_certificates(agent: Agent) -> None:
    def put(body: bytes) -> Any:
        return agent.api.handle(Request("PUT", "/v1/certificate", {}, body)).status

    assert (put(b"bad"), put(b"good"), agent.certificates.installed) == (422, 204, [b"good"])


def test_a_state_disk_in_trouble_is_unhealthy_by_itself(agent: Agent) -> None:
    agent.put(document(1, a=1), prefer="wait=10")
    wait_for(lambda: agent.health().healthy, 5, "the services to be well")
    agent.disk.append("the state disk is full")
    assert agent.get("/v1/health").status == 503
    assert agent.health().services["state-disk"].detail == "the state disk is full"
    agent.disk.append("")
    assert "state-disk" not in agent.health().services
