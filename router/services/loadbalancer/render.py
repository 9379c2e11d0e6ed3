"""haproxy's configuration; ruleset.py has the ports that are open for it.

Each rule is one ``listen`` section named by the rule's id. Its servers stand last and carry no option of their own,
so that the text without them (the skeleton) tells whether a change takes a reload: a haproxy whose ``description`` is
the skeleton's digest differs in members only, which its runtime API changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.settings import Settings
from appliance.templates import fill
from router.document import RouterState
from router.services.loadbalancer.model import AppCookie, BalancedPort, LbCookie, LoadBalancer, SourceBased
from router.services.loadbalancer.ruleset import ruleset

UNIT = "haproxy"
PROGRAM = "/usr/sbin/haproxy"
#: must exist on the appliance; Debian's haproxy makes it
USER = "haproxy"
#: name of this haproxy among its peers, of which there are none but the process before and after a reload
PEER, PEER_PORT = "router", 10247
#: a stick table of cookies: entries are made as they are needed
SESSIONS = 100_000
#: Set-Cookie headers of one answer that are searched for a cookie by the beginning of its name
SET_COOKIES = 4
#: cookies of a request, and parameters in its address, that are
PLACES = 16


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "loadbalancer/haproxy.cfg"


def certificate_file(settings: Settings, id: str) -> Path:
    return settings.config_dir / f"loadbalancer/{id}.pem"


def run_dir(settings: Settings) -> Path:
    """Holds the runtime socket; haproxy makes it, so the directory is haproxy's."""
    return settings.run_dir / "loadbalancer"


def socket_file(settings: Settings) -> Path:
    return run_dir(settings) / "admin.sock"


def states_file(settings: Settings) -> Path:
    """The members' states at the newest reload (management guide, "show servers state")."""
    return run_dir(settings) / "states"


def balanced(state: RouterState | None) -> LoadBalancer | None:
    """What this router balances now: nothing without rules, nor on standby, where it does not hold the addresses."""
    if state is None or state.loadbalancer is None or not state.loadbalancer.rules:
        return None
    redundancy = state.interfaces.redundancy
    return None if redundancy is not None and redundancy.state == "standby" else state.loadbalancer


def server_options(rule: BalancedPort) -> str:
    """The options of each server; the runtime API does not take them from ``default-server``."""
    health = rule.health
    options = f"check inter {health.interval}s rise {health.healthy} fall {health.unhealthy}"
    return f"{options} send-proxy-v2" if rule.protocol == "tcp-proxy" else options


def digest(balancer: LoadBalancer, settings: Settings) -> str:
    """Of everything but the members: the skeleton and the certificates."""
    found = hashlib.sha256(_config(balancer, settings, "", members=False).encode())
    for certificate in balancer.certificates:
        found.update(certificate.pem.get_secret_value().encode())
    return found.hexdigest()[:32]


def _config(balancer: LoadBalancer, settings: Settings, description: str, *, members: bool) -> str:
    return fill(
        __package__,
        "haproxy.cfg.j2",
        digest=description,
        socket=socket_file(settings),
        states=states_file(settings),
        peer=PEER,
        peer_port=PEER_PORT,
        rules=balancer.rules,
        certificate=lambda id: certificate_file(settings, id),
        sticky=_sticky,
        options=server_options,
        members=members,
    )


def _sticky(rule: BalancedPort) -> Iterator[str]:
    """Configuration lines of a rule's stickiness (haproxy's configuration manual: cookie, stick-table, stick)."""
    match rule.stickiness:
        case LbCookie() as cookie:
            words = ["cookie", cookie.cookie_name, cookie.mode]
            words += [word for word in ("indirect", "nocache", "postonly") if getattr(cookie, word)]
            words += [f"domain {domain}" for domain in cookie.domains]
            words += [f"maxlife {cookie.holdtime}s"] if cookie.holdtime else []
            # values made from the member and a key: a server added at run time gets one too, and none shows an address
            yield " ".join([*words, "dynamic"])
            yield f"dynamic-cookie-key {rule.id}"
        case SourceBased() as source:
            yield f"stick-table type ip size {source.table_size} expire {source.expire}s peers stickiness"
            yield "stick on src"
        case AppCookie() as cookie:
            table = f"stick-table type string len {cookie.length} size {SESSIONS}"
            yield f"{table} expire {cookie.holdtime}s peers stickiness"
            yield from _session(cookie)


def _session(cookie: AppCookie) -> Iterator[str]:
    """Learn the application's cookie from answers, look it up in requests.

    ``appsession`` did this until haproxy 1.6; its manual says what each parameter means.
    """
    name, use = cookie.cookie_name, "stick on" if cookie.request_learn else "stick match"
    if not cookie.prefix:
        yield f"stick store-response res.cook({name})"
        yield f"{use} req.cook({name})"
        yield f"{use} url_param({name},{';' if cookie.mode == 'path-parameters' else '?'})"
        return
    # words instead of regular expressions: haproxy compiles those to machine code, which its sandbox forbids
    value = f"bytes({len(name)})"
    for number in range(1, SET_COOKIES + 1):
        header = f"res.fhdr(set-cookie,{number})"
        yield f"""stick store-response {header},field(1,;),{value} if {{ {header} -m beg {name} }}"""
    place = "path,word({},;)" if cookie.mode == "path-parameters" else "query,word({},&)"
    for source in ("req.fhdr(cookie),word({},'\"; \"')", place):
        # a variable of its own: one look-up in the cookies, one in the address
        variable = f"txn.session_{'address' if source is place else 'cookie'}"
        for number in range(1, PLACES + 1):
            word = source.format(number)
            yield f"http-request set-var({variable}) {word},{value} if {{ {word} -m beg {name} }}"
        yield f"{use} var({variable})"


def render(state: RouterState, settings: Settings) -> Rendered:
    """Everything load balancing needs; nothing at all without rules."""
    balancer = balanced(state)
    if balancer is None:
        return Rendered()
    config = _config(balancer, settings, digest(balancer, settings), members=True)
    return Rendered(
        files={
            config_file(settings): File(config, mode=0o640, owner=USER),
            **{
                certificate_file(settings, one.id): File(one.pem.get_secret_value(), mode=0o600, owner=USER)
                for one in balancer.certificates
            },
        },
        ruleset=ruleset(balancer, state),
        units=(
            Unit(
                name=UNIT,
                # master and worker: on SIGUSR2 the master hands its sockets to a new worker
                argv=(PROGRAM, "-W", "-L", PEER, "-f", str(config_file(settings))),
                user=USER,
                capabilities=frozenset({"net_bind_service"}),
                writable=(run_dir(settings),),
            ),
        ),
    )
