"""The control plane's client of an appliance's agent: HTTPS with mutual TLS over the control network."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from pydantic import TypeAdapter, ValidationError

from appliance.errors import GatehouseError
from appliance.schema.status import Health, Problem, Status
from appliance.schema.traffic import Traffic
from controlplane.hypervisors.base import HypervisorError
from controlplane.pki import Authority

#: seconds for a TCP connection, and for an answer beyond the time that was asked to wait
CONNECT_TIMEOUT = 3.0
ANSWER_TIMEOUT = 10.0

#: as Hypervisor.connect: address, port, timeout in seconds
Dial = Callable[[str, int, float], socket.socket]


class AgentError(GatehouseError):
    """A call to an agent did not work."""


class AgentUnreachableError(AgentError):
    """No connection, no answer in time, or an answer that is not the agent's: worth trying again later."""


class CertificateExpiredError(AgentUnreachableError):
    """The agent's certificate has ended: renew it with ``renew_certificate``, then call again."""


class DocumentRefusedError(AgentError):
    """The agent refused the document (422) and changed nothing. ``problems`` name the fields."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(describe(problems))


class StaleDocumentError(AgentError):
    """The agent has a newer generation, or the document is for another appliance (409)."""


def describe(problems: tuple[Problem, ...]) -> str:
    """Problems in one line, for a job's error text."""
    return "; ".join(": ".join(part for part in (item.service, item.field, item.message) if part) for item in problems)


_PROBLEMS = TypeAdapter(dict[str, tuple[Problem, ...]])


def content_digest(body: bytes) -> str:
    """The value of the Content-Digest field for ``body`` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@dataclass(frozen=True)
class Agent:
    """Where an agent listens and who it must be."""

    id: str
    address: str
    port: int = 9443


class _Connection(http.client.HTTPConnection):
    def __init__(self, agent: Agent, dial: Dial, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(agent.address, agent.port, timeout=timeout)
        self._agent, self._dial, self._context = agent, dial, context

    def connect(self) -> None:
        raw = self._dial(self._agent.address, self._agent.port, CONNECT_TIMEOUT)
        try:
            raw.settimeout(CONNECT_TIMEOUT)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # the certificate must name the appliance: another appliance's agent at this address is an error
            self.sock = self._context.wrap_socket(raw, server_hostname=self._agent.id)
        except BaseException:
            raw.close()
            raise


class AgentClient:
    """Calls to one agent over one connection that is kept open. Threads take turns."""

    def __init__(self, agent: Agent, authority: Authority, dial: Dial) -> None:
        self.agent = agent
        self._authority = authority
        self._dial = dial
        self._connection: _Connection | None = None
        self._lock = threading.Lock()

    def push(self, document: bytes, *, wait: float = 0) -> Status:
        """PUT a desired-state document; wait up to ``wait`` seconds for its outcome.

        Returns the status: when it was long in coming, ``attempt`` is still an older generation. Raises
        DocumentRefusedError, StaleDocumentError, AgentUnreachableError.
        """
        headers = {"Content-Type": "application/json", "Content-Digest": content_digest(document)}
        if wait:
            headers["Prefer"] = f"wait={max(1, round(wait))}"
        return _status(self._call("PUT", "/v1/state", document, headers=headers, timeout=wait + ANSWER_TIMEOUT))

    def status(self) -> Status:
        """GET /v1/status. Raises AgentUnreachableError."""
        return _status(self._call("GET", "/v1/status"))

    def health(self) -> Health:
        """GET /v1/health: the newest probes, healthy or not. Raises AgentUnreachableError."""
        body = self._call("GET", "/v1/health", accept=(200, 503))
        try:
            return Health.model_validate_json(body)
        except ValidationError as error:
            raise AgentUnreachableError(f"unreadable health from {self.agent.id}: {error}") from error

    def metrics(self) -> str:
        """GET /v1/metrics: Prometheus text. Raises AgentUnreachableError."""
        return self._call("GET", "/v1/metrics").decode()

    def traffic(self) -> Traffic | None:
        """GET /v1/traffic; None from an appliance that meters nothing. Raises AgentUnreachableError."""
        try:
            body = self._call("GET", "/v1/traffic", accept=(200, 404))
            return Traffic.model_validate_json(body) if body.startswith(b"{") else None
        except ValidationError as error:
            raise AgentUnreachableError(f"unreadable traffic from {self.agent.id}: {error}") from error

    def read_file(self, service: str, name: str, offset: int) -> bytes:
        """GET a piece of a service's file from ``offset``; b"" at its end, and of none. Raises as ``status``."""
        return self._call("GET", f"/v1/files/{service}/{name}", headers={"X-Offset": str(offset)}, accept=(200,))

    def write_file(self, service: str, name: str, offset: int, data: bytes) -> None:
        """PUT a piece of a service's file at ``offset``; at 0 it begins anew. Raises AgentUnreachableError."""
        self._call("PUT", f"/v1/files/{service}/{name}", data, headers={"X-Offset": str(offset)}, accept=(204,))

    def remove_file(self, service: str, name: str) -> None:
        """DELETE a service's file. Raises AgentUnreachableError."""
        self._call("DELETE", f"/v1/files/{service}/{name}", accept=(204,))

    def certificate(self) -> x509.Certificate | None:
        """The agent's certificate on the connection that is open, if one is."""
        connection = self._connection
        sock = connection.sock if connection else None
        return _peer_certificate(sock) if sock else None

    def renew_certificate(self, role: str) -> None:
        """Give the agent its next certificate, even when the one it has has ended. Raises AgentError."""
        with self._lock:
            self._drop()
            connection = _Connection(
                self.agent, self._dial, self._authority.client_context(check_time=False), ANSWER_TIMEOUT
            )
            try:
                connection.connect()
                fresh = self._authority.renew(self.agent.id, role, _peer_certificate(connection.sock))
                connection.request("PUT", "/v1/certificate", fresh, {"Content-Type": "application/x-pem-file"})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException, HypervisorError) as error:
                raise self._unreachable(error) from error
            finally:
                connection.close()
            if response.status not in (200, 204):
                raise AgentError(
                    f"{self.agent.id} did not take its new certificate: {response.status} {_excerpt(body)}"
                )

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_TIMEOUT,
        accept: tuple[int, ...] = (200, 202),
    ) -> bytes:
        with self._lock:
            try:
                status, answer = self._exchange(method, path, body, headers or {}, timeout)
            except (OSError, http.client.HTTPException, HypervisorError) as error:
                self._drop()
                raise self._unreachable(error) from error
        if status in accept:
            return answer
        if status == 422:
            raise DocumentRefusedError(_problems(answer))
        text = f"{method} {path} at {self.agent.id} ({self.agent.address}): {status} {_excerpt(answer)}"
        if status == 409:
            raise StaleDocumentError(text)
        raise AgentUnreachableError(text)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        kept = self._connection is not None
        try:
            return self._send(method, path, body, headers, timeout)
        except (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError):
            # an agent that restarted has closed the kept connection; every call here may be repeated
            if not kept:
                raise
            self._drop()
            return self._send(method, path, body, headers, timeout)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = _Connection(self.agent, self._dial, self._authority.client_context(), ANSWER_TIMEOUT)
            self._connection.connect()
        connection = self._connection
        connection.sock.settimeout(timeout)
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        answer = response.read()
        if response.will_close:
            self._drop()
        return response.status, answer

    def _unreachable(self, error: Exception) -> AgentUnreachableError:
        place = f"{self.agent.id} at {self.agent.address}:{self.agent.port}"
        if isinstance(error, ssl.SSLCertVerificationError):
            if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
                return CertificateExpiredError(f"the certificate of {place} has ended")
            return AgentUnreachableError(f"{place} is not who it should be: {error.verify_message}")
        if isinstance(error, ssl.SSLError):
            return AgentUnreachableError(f"{place} refused the TLS connection: {error.reason or error}")
        if isinstance(error, TimeoutError):
            return AgentUnreachableError(f"{place} does not answer in time")
        return AgentUnreachableError(f"{place} does not answer: {error}")


def _peer_certificate(sock: ssl.SSLSocket | socket.socket) -> x509.Certificate:
    encoded = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
    if encoded is None:
        raise ConnectionError("the connection has no peer certificate")
    return x509.load_der_x509_certificate(encoded)


def _status(body: bytes) -> Status:
    try:
        return Status.model_validate_json(body)
    except ValidationError as error:
        raise AgentUnreachableError(f"unreadable status from an agent: {error}") from error


def _problems(body: bytes) -> tuple[Problem, ...]:
    try:
        return _PROBLEMS.validate_json(body)["problems"]
    except (ValidationError, KeyError) as error:
        raise AgentUnreachableError(f"unreadable refusal from an agent: {_excerpt(body)}") from error


def _excerpt(body: bytes) -> str:
    return body[:500].decode(errors="replace").strip()
