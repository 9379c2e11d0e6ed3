"""Consoles: who may see which screen, and how the proxy serves it (guide: chapter 16.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_serializer, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Domain, Flag, Frozen, Integer, Port, RuleId
from appliance.schema.web import ORIGIN, Certificate, Digest, Origin, Pem, Utc

#: RFC 6797 hosts of frame-ancestors: an origin, or one with a leading wildcard label
_ANCESTOR = rf"'self'|https?://\*\.[a-z0-9.-]+(:[1-9][0-9]{{0,4}})?|{ORIGIN}"


def _ancestor(value: str) -> str:
    if not re.fullmatch(_ANCESTOR, value):
        raise ValueError("must be 'self', an origin as in https://cloud.example, or https://*.cloud.example")
    return value


Ancestor = Annotated[str, AfterValidator(_ancestor)]
Seconds = Annotated[Integer, Field(ge=1, le=31_536_000)]


class VncTarget(Frozen):
    """A VNC server (RFC 6143) and how it wants to be spoken to.

    ``security``: ``none``; ``vnc`` is VNC authentication with ``password``, of which eight characters count;
    ``vencrypt`` is TLS with a verified X.509 certificate: X509Plain with ``username``, X509Vnc with a ``password``
    alone, X509None without. Nothing weaker is ever agreed to.
    """

    kind: Literal["vnc"] = "vnc"
    host: Address
    port: Port
    security: Literal["none", "vnc", "vencrypt"] = "none"
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password: SecretStr | None = None
    #: PEM: who may sign the server's certificate
    ca: Pem | None = None
    #: name or address that the server's certificate must have; ``host`` when absent
    server_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]{1,253}$")] | None = None

    @field_serializer("password", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        return value.get_secret_value() if value is not None else None

    @model_validator(mode="after")
    def _check(self) -> VncTarget:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.security == "vnc" and self.password is None:
            yield ("password",), "VNC authentication needs one"
        if self.security == "none" and self.password is not None:
            yield ("password",), "goes with security vnc or vencrypt"
        if self.username is not None and (self.security != "vencrypt" or self.password is None):
            yield ("username",), "goes with security vencrypt and a password"
        if (self.security == "vencrypt") != (self.ca is not None):
            yield ("ca",), "security vencrypt needs the CA of the server's certificate, and nothing else does"


class Playback(Frozen):
    """A recording that this proxy made, shown as it was."""

    kind: Literal["recording"] = "recording"
    #: id of the session that was recorded
    recording: RuleId


class Policy(Frozen):
    """What the person at the browser may do. The proxy enforces it, whatever the browser sends."""

    view_only: Flag = False
    #: text may be copied to and from the guest
    clipboard: Flag = True
    #: others may be connected to the same screen; ``exclusive`` asks the VNC server to disconnect them
    sharing: Literal["shared", "exclusive"] = "shared"
    record: Flag = False
    #: only from here; None: from anywhere
    client: Address | None = None


class Session(Frozen):
    """Leave for one person to see one screen. One that leaves the document is closed at once."""

    id: RuleId
    #: SHA-256 of the token, hexadecimal; the token itself is in the link that the person opened and nowhere else
    token_hash: Digest
    #: the machine: its UUID, and its name as people know it
    vm: RuleId
    name: Annotated[str, Field(max_length=255)] = ""
    target: Annotated[VncTarget | Playback, Field(discriminator="kind")]
    policy: Policy = Policy()
    #: a token that was not used by then never will be
    expires: Utc


class Console(Frozen):
    """The proxy: its certificate and settings, and the sessions it may open now.

    ``certificate`` None: HTTP without TLS, for a proxy behind something that ends TLS.
    """

    port: Port = 443
    certificate: Certificate | None = None
    #: proxies are also known as aaa-bbb-ccc-ddd.<domain>
    domain: Domain | None = None
    #: pages of these origins may open sessions' sockets, beside the proxy's own page
    origins: tuple[Origin, ...] = ()
    #: who may show the page in a frame (CSP frame-ancestors); nobody when empty
    frame_ancestors: tuple[Ancestor, ...] = ()
    #: sessions open at the same time
    session_max: Annotated[Integer, Field(ge=1, le=10_000)] = 50
    #: seconds without a key, a pointer's move or a paste; None: no limit
    idle_limit: Seconds | None = None
    #: seconds from the first connection to the end; None: no limit
    length_limit: Seconds | None = None
    #: seconds for which a page may come back after its connection broke
    reconnect_limit: Seconds = 300
    #: seconds that a recording is kept, and MiB that one may take
    recording_age: Seconds = 2_592_000
    recording_size: Annotated[Integer, Field(ge=1, le=102_400)] = 512
    #: number of the newest report that was taken in: it and those before it are forgotten
    acknowledged: Annotated[Integer, Field(ge=0)] = 0
    sessions: tuple[Session, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Console:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([session.id for session in self.sessions]):
            yield ("sessions", index, "id"), f"{identity} is given twice"
        for index, _ in repeated([session.token_hash for session in self.sessions]):
            yield ("sessions", index, "token_hash"), "another session has this token"
