"""Load balancing (guide: chapters 15.9 and 15.15)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_serializer, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Domain, Flag, Frozen, Integer, InterfaceName, Network, Port, RuleId

#: a token of RFC 6265 section 4.1.1, without what haproxy's configuration would take as its own
CookieName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Seconds = Annotated[Integer, Field(ge=1, le=31_536_000)]
#: an absolute path and query as RFC 3986 writes it, without quotes, spaces, "#" and "$"
HttpPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~!&()*+,;=:@%/?-]{0,1023}$")]


class LbCookie(Frozen):
    """The load balancer's own cookie says which member a client belongs to."""

    method: Literal["LbCookie"] = "LbCookie"
    cookie_name: CookieName
    mode: Literal["insert", "rewrite", "prefix"] = "insert"
    nocache: Flag = False
    indirect: Flag = False
    postonly: Flag = False
    domains: tuple[Domain, ...] = ()
    #: seconds after which a client is balanced anew
    holdtime: Seconds | None = None

    @model_validator(mode="after")
    def _check(self) -> LbCookie:
        if self.mode != "insert":
            for name in ("postonly", "holdtime", "indirect"):
                if getattr(self, name):
                    refuse([((name,), f"goes with mode insert, not {self.mode}")])
        return self


class AppCookie(Frozen):
    """A cookie of the application is learnt, and who brings it goes to the member that set it."""

    method: Literal["AppCookie"] = "AppCookie"
    cookie_name: CookieName
    #: how many characters of the value count
    length: Annotated[Integer, Field(ge=1, le=1024)] = 52
    #: seconds without use after which a session is forgotten
    holdtime: Seconds = 10800
    #: learn from requests too, so that a session outlives a restart of the load balancer
    request_learn: Flag = False
    #: every cookie whose name begins with ``cookie_name`` counts, the rest of the name being part of the value
    prefix: Flag = False
    #: where else the session is looked for: ``/path;name=value`` or ``/path?name=value``
    mode: Literal["path-parameters", "query-string"] = "path-parameters"


class SourceBased(Frozen):
    """A client's address keeps its member."""

    method: Literal["SourceBased"] = "SourceBased"
    table_size: Annotated[Integer, Field(ge=1, le=1_000_000)] = 200_000
    #: seconds without use
    expire: Seconds = 1800


Stickiness = Annotated[LbCookie | AppCookie | SourceBased, Field(discriminator="method")]


class HealthCheck(Frozen):
    """How members are looked at: an HTTP GET of ``path`` that must answer 2xx or 3xx, without one a TCP connection."""

    path: HttpPath | None = None
    #: seconds
    timeout: Annotated[Integer, Field(ge=1, le=60)] = 2
    interval: Annotated[Integer, Field(ge=1, le=300)] = 2
    #: looks in a row that change a member's state
    healthy: Annotated[Integer, Field(ge=1, le=10)] = 2
    unhealthy: Annotated[Integer, Field(ge=1, le=10)] = 2


class Certificate(Frozen):
    """``pem``: certificate, private key and chain, as haproxy reads them from one file."""

    id: RuleId
    pem: SecretStr

    @field_serializer("pem", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Member(Frozen):
    """A guest's port."""

    address: Address
    port: Port

    @property
    def name(self) -> str:
        """What haproxy calls it: from the member alone, so that it survives every change of the others."""
        return f"{self.address}:{self.port}"


class BalancedPort(Frozen):
    """A rule: one TCP port of a public address, spread over ``members`` on the guest network of ``interface``.

    ``tcp-proxy`` tells members the client's address by PROXY protocol version 2; ``ssl`` ends TLS here. Cookies make
    ``tcp``, ``tcp-proxy`` and ``ssl`` speak HTTP too. ``sources`` empty: everyone.
    """

    id: RuleId
    address: Address
    port: Port
    interface: InterfaceName
    protocol: Literal["tcp", "tcp-proxy", "http", "ssl"] = "tcp"
    algorithm: Literal["roundrobin", "leastconn", "source"] = "roundrobin"
    members: tuple[Member, ...] = ()
    sources: tuple[Network, ...] = ()
    stickiness: Stickiness | None = None
    health: HealthCheck = HealthCheck()
    #: ids; the first one is for clients that ask for no name or for none that any certificate has (SNI)
    certificates: tuple[RuleId, ...] = ()

    @property
    def speaks_http(self) -> bool:
        return self.protocol == "http" or isinstance(self.stickiness, LbCookie | AppCookie)

    @model_validator(mode="after")
    def _check(self) -> BalancedPort:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, name in repeated([member.name for member in self.members]):
            yield ("members", index), f"{name} is a member already"
        for index, identity in repeated(list(self.certificates)):
            yield ("certificates", index), f"{identity} is given twice"
        if self.protocol == "ssl" and not self.certificates:
            yield ("certificates",), "protocol ssl needs a certificate"
        if self.protocol != "ssl" and self.certificates:
            yield ("certificates",), f"go with protocol ssl, not {self.protocol}"


class LoadBalancer(Frozen):
    """All of a router's load balancing."""

    rules: tuple[BalancedPort, ...] = ()
    certificates: tuple[Certificate, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> LoadBalancer:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for index, identity in repeated([rule.id for rule in self.rules]):
            yield ("rules", index, "id"), f"{identity} is given twice"
        for index, (_, port) in repeated([(int(rule.address), rule.port) for rule in self.rules]):
            yield ("rules", index, "port"), f"port {port} of {self.rules[index].address} has a rule already"
        for index, identity in repeated([certificate.id for certificate in self.certificates]):
            yield ("certificates", index, "id"), f"{identity} is given twice"
        known = {certificate.id for certificate in self.certificates}
        for index, rule in enumerate(self.rules):
            for place, identity in enumerate(rule.certificates):
                if identity not in known:
                    yield ("rules", index, "certificates", place), f"there is no certificate {identity}"
