"""What the relay reads, and the port that is open for it.

``relay.json`` is the section itself with what the relay must know of the rest; its ``certificate_digest`` says which
``certificate.pem`` it goes with, so that the two files, which are not swapped at one instant, are never mixed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import INPUT
from appliance.netfilter.ruleset import Ruleset
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.console.model import Console

UNIT = "console"
#: Debian's user for proxies that need files of their own (base-passwd)
USER = "proxy"


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
    own = ", ".join(map(str, addresses))
    return Rendered(
        files=files,
        ruleset=Ruleset(
            rules={INPUT: ((300, f"iifname @public_interfaces ip daddr {{ {own} }} tcp dport {console.port} accept"),)}
        ),
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
