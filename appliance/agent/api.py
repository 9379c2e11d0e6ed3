"""The agent's HTTP interface: what each path does, without the transport."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from appliance import VERSION
from appliance.agent import metrics
from appliance.agent.server import Request, Response
from appliance.agent.tls import CertificateRefusedError, Certificates
from appliance.agent.worker import Prober, StaleError, Worker
from appliance.engine.engine import Engine
from appliance.errors import DocumentError
from appliance.schema.envelope import Identity
from appliance.schema.status import Health, Problem, ServiceHealth, Status

log = logging.getLogger(__name__)

#: longest wait a client may ask for, in seconds
LONGEST_WAIT = 300.0
#: a file of a service, in either direction
_FILE = re.compile(r"/v1/files/(?P<service>[a-z]+)/(?P<name>[A-Za-z0-9:-][A-Za-z0-9._:-]{0,127})")


class Api:
    """Answers requests of the control plane."""

    def __init__(
        self,
        identity: Identity,
        engine: Engine,
        worker: Worker,
        prober: Prober,
        certificates: Certificates,
        *,
        state_disk: Callable[[], str],
    ) -> None:
        """``state_disk`` says what is wrong with it, or "", for the health answer."""
        self._state_disk = state_disk
        self._identity, self._engine = identity, engine
        self._worker, self._prober, self._certificates = worker, prober, certificates
        self._started = time.time()
        self._routes: dict[str, dict[str, Callable[[Request], Response]]] = {
            "/v1/state": {"PUT": self._put_state},
            "/v1/certificate": {"PUT": self._put_certificate},
            "/v1/status": {"GET": self._get_status},
            "/v1/health": {"GET": self._get_health},
            "/v1/metrics": {"GET": self._get_metrics},
            "/v1/traffic": {"GET": self._get_traffic},
        }

    def handle(self, request: Request) -> Response:
        if file := _FILE.fullmatch(request.path):
            return self._file(request, file["service"], file["name"])
        methods = self._routes.get(request.path)
        if methods is None:
            return _text(404, f"there is no {request.path}; paths are {', '.join(self._routes)}")
        if request.method not in methods:
            return _text(405, f"{request.path} takes {', '.join(methods)}")
        return methods[request.method](request)

    def _put_state(self, request: Request) -> Response:
        """Body: a document. 200 with Status when it ended within ``Prefer: wait=N``, else 202 with Status.

        400 wrong Content-Digest, 409 stale or another appliance's, 422 invalid: ``{"problems": [Problem, ...]}``.
        """
        if not _digest_matches(request):
            return _text(400, "Content-Digest does not match the body; send it again")
        try:
            document = self._engine.parser.parse(request.body)
        except DocumentError as error:
            return _problems(
                Problem(
                    stage="parse", service=field.partition(".")[0] if "." in field else "", field=field, message=text
                )
                for field, text in error.problems
            )
        if document.id != self._identity.id:
            return _text(409, f"the document is for {document.id}, this is {self._identity.id}")
        try:
            self._worker.submit(document)
        except StaleError as error:
            return _text(409, str(error))
        wanted = _wait_wanted(request)
        ended = wanted > 0 and self._worker.wait(document.generation, wanted)
        return Response(200 if ended else 202, self._status().model_dump_json().encode())

    def _put_certificate(self, request: Request) -> Response:
        """Body: the next certificate (PEM) for the agent's key. 204, or 422 when it cannot be used."""
        try:
            self._certificates.install(request.body)
        except CertificateRefusedError as error:
            return _text(422, str(error))
        return Response(204)

    def _get_status(self, _: Request) -> Response:
        return Response(200, self._status().model_dump_json().encode())

    def _status(self) -> Status:
        engine = self._engine
        reports: dict[str, Any] = {}
        for service in engine.services:
            try:
                facts = service.report(engine.host)
            except Exception:
                log.exception("report of %s", service.name)
                continue
            if facts is not None:
                reports[service.name] = facts
        return Status(
            id=self._identity.id,
            role=self._identity.role,
            version=VERSION,
            started=self._started,
            generation=engine.applied.generation,
            digest=engine.applied.digest,
            applying=self._worker.applying,
            attempt=engine.attempt,
            repairs=engine.repairs.newest,
            reports=reports,
        )

    def _get_health(self, _: Request) -> Response:
        services = dict(self._prober.results)
        if trouble := self._engine.trouble:
            detail = "; ".join(f"{problem.service}: {problem.message}" for problem in trouble)
            services["engine"] = ServiceHealth(healthy=False, detail=detail, checked=time.time())
        if detail := self._state_disk():
            services["state-disk"] = ServiceHealth(healthy=False, detail=detail, checked=time.time())
        health = Health(
            healthy=all(result.healthy for result in services.values()),
            generation=self._engine.applied.generation,
            services=services,
        )
        return Response(200 if health.healthy else 503, health.model_dump_json().encode())

    def _get_metrics(self, _: Request) -> Response:
        text = metrics.render(self._engine, self._prober.results, self._started)
        return Response(200, text.encode(), "text/plain; version=0.0.4")

    def _get_traffic(self, _: Request) -> Response:
        """200 with Traffic, 404 from an appliance that meters nothing (yet)."""
        state = self._engine.applied.state
        for service in self._engine.services if state is not None else ():
            if (traffic := service.traffic(state, self._engine.host)) is not None:
                return Response(200, traffic.model_dump_json().encode())
        return _text(404, "nothing is metered here")

    def _file(self, request: Request, name: str, file: str) -> Response:
        """A piece of a service's file, from ``X-Offset`` on: GET (200) and PUT (204); DELETE (204) the whole."""
        service = next((one for one in self._engine.services if one.name == name), None)
        offset = request.headers.get("x-offset", "0")
        if service is None or not offset.isdecimal():
            return _text(404, f"there is no service {name}" if service is None else "X-Offset is a number of octets")
        host = self._engine.host
        try:
            match request.method:
                case "GET":
                    return Response(200, service.read_file(file, int(offset), host), "application/octet-stream")
                case "PUT":
                    service.write_file(file, int(offset), request.body, host)
                case "DELETE":
                    service.remove_file(file, host)
                case _:
                    return _text(405, "files take GET, PUT, DELETE")
        except OSError as error:
            return _text(503, f"{name}: {error}")
        return Response(204)


def _text(status: int, text: str) -> Response:
    return Response(status, f"{text}\n".encode(), "text/plain; charset=utf-8")


def _problems(problems: Iterable[Problem]) -> Response:
    body = {"problems": [problem.model_dump() for problem in problems]}
    return Response(422, json.dumps(body).encode())


def _digest_matches(request: Request) -> bool:
    """Check the sha-256 of Content-Digest (RFC 9530), if there is one."""
    given = re.search(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]*):", request.headers.get("content-digest", ""))
    return given is None or given[1] == base64.b64encode(hashlib.sha256(request.body).digest()).decode()


def _wait_wanted(request: Request) -> float:
    """Seconds of ``Prefer: wait=N`` (RFC 7240)."""
    given = re.search(r"(?:^|[,;\s])wait=(\d{1,6})", request.headers.get("prefer", ""))
    return min(float(given[1]), LONGEST_WAIT) if given else 0.0
