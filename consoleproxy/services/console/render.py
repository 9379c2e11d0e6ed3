"""What the relay reads, the port that is open for it, and the screens that it may reach.

``relay.json`` is the section itself with what the relay must know of the rest; its ``certificate_digest`` says which
``certificate.pem`` it goes with, so that the two files, which are not swapped at one instant, are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import INPUT
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.console.model import Console, VncTarget

UNIT = "console"
#: Debian's user for proxies that need files of their own (base-passwd)
USER = "proxy"
#: new connections a second, and at once before that counts: from one address, behind which a company may be, and from
#: all together, so that no flood of handshakes takes the processor from the sessions there are
BY_ONE, BY_ALL = (30, 120), (100, 400)
#: addresses that are counted
MOST_COUNTED = 65_536


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "console/relay.json"


def certificate_file(settings: Settings) -> Path:
    return settings.config_dir / "console/certificate.pem"


def run_dir(settings: Settings) -> Path:
    """Holds the relay's own socket, by which the agent asks it; the directory is the relay's."""
    return settings.run_dir / "console"


def socket_file(settings: Settings) -> Path:
    return run_dir(settings) / "relay.sock"


def state_dir(settings: Settings) -> Path:
    """Holds the ledger and the recordings."""
    return settings.state_dir / "console"


def own_origins(state: ConsoleProxyState, console: Console) -> list[str]:
    """The origins of the proxy's own page: by each public address, and by its name in the domain."""
    scheme = "http" if console.certificate is None else "https"
    default = 80 if console.certificate is None else 443
    port = "" if console.port == default else f":{console.port}"
    names = [str(address) for address in state.interfaces.public_addresses()]
    if console.domain is not None:
        names += [f"{name.replace('.', '-')}.{console.domain.lower()}" for name in list(names)]
    return [f"{scheme}://{name}{port}" for name in names]


def certificate_pem(console: Console) -> str:
    """Key, certificate and chain as one file, "" without a certificate."""
    if (own := console.certificate) is None:
        return ""
    return "\n".join(part.strip() for part in (own.key.get_secret_value(), own.certificate, own.chain) if part) + "\n"


def configuration(state: ConsoleProxyState, console: Console, settings: Settings) -> dict[str, Any]:
    pem = certificate_pem(console)
    return {
        "listen": [str(address) for address in state.interfaces.public_addresses()],
        "own_origins": own_origins(state, console),
        "certificate_digest": hashlib.sha256(pem.encode()).hexdigest() if pem else "",
        "certificate_file": str(certificate_file(settings)),
        "socket": str(socket_file(settings)),
        "state": str(state_dir(settings)),
        "console": json.loads(console.model_dump_json(exclude={"certificate"})),
    }


def render(state: ConsoleProxyState, settings: Settings) -> Rendered:
    """The relay, its configuration and its port; nothing at all without a section or an address to serve on."""
    console, addresses = state.console, state.interfaces.public_addresses()
    if console is None or not addresses:
        return Rendered()
    files = {
        config_file(settings): File(
            json.dumps(configuration(state, console, settings), indent=1) + "\n", mode=0o600, owner=USER
        )
    }
    if pem := certificate_pem(console):
        files[certificate_file(settings)] = File(pem, mode=0o600, owner=USER)
    return Rendered(
        files=files,
        ruleset=_ruleset(console, addresses),
        units=(
            Unit(
                name=UNIT,
                argv=(sys.executable, "-m", "consoleproxy.services.console.relay", str(config_file(settings))),
                user=USER,
                capabilities=frozenset({"net_bind_service"}),
                writable=(run_dir(settings), state_dir(settings)),
            ),
        ),
    )


def _ruleset(console: Console, addresses: Iterable[IPv4Address]) -> Ruleset:
    """In comes what is not too much; out go the relay's connections to the screens of the sessions, and no other."""
    own = f"iifname @public_interfaces ip daddr {{ {', '.join(map(str, addresses))} }} tcp dport {console.port}"
    (rate, burst), (whole_rate, whole_burst) = BY_ONE, BY_ALL
    targets = [session.target for session in console.sessions]
    screens = {f"{one.host} . {one.port}": "" for one in targets if isinstance(one, VncTarget)}
    return Ruleset(
        chains={"console_egress": "type filter hook output priority filter; policy accept;"},
        sets={
            "console_clients": Set(f"type ipv4_addr; size {MOST_COUNTED}; flags dynamic,timeout; timeout 1m;"),
            "console_screens": Set("type ipv4_addr . inet_service;", screens),
        },
        rules={
            INPUT: (
                (300, f"{own} update @console_clients {{ ip saddr {_over(rate, burst)} }} drop"),
                (301, f"{own} {_over(whole_rate, whole_burst)} drop"),
                (302, f"{own} accept"),
            ),
            "console_egress": (
                (0, "ct state established,related accept"),
                (300, f'meta skuid "{USER}" ip daddr . tcp dport @console_screens accept'),
                (900, f'meta skuid "{USER}" reject with icmpx admin-prohibited'),
            ),
        },
    )


def _over(rate: int, burst: int) -> str:
    return f"limit rate over {rate}/second burst {burst} packets"
