"""What the name server reads at its start, and port 53 of the public addresses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import INPUT
from appliance.netfilter.ruleset import Ruleset
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState

UNIT = "dns"
PORT = 53
#: it needs no file of its own
USER = "nobody"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "dns/server.json"


def render(state: ConsoleProxyState, settings: Settings) -> Rendered:
    """The server, its configuration and its port; nothing at all without a section or an address."""
    section, addresses = state.dns, state.interfaces.public_addresses()
    if section is None or not addresses:
        return Rendered()
    config = {
        "listen": [str(address) for address in addresses],
        "port": PORT,
        "domain": section.domain,
        "ranges": [[str(one.first), str(one.last)] for one in section.ranges],
        "nameservers": [str(address) for address in section.nameservers or addresses],
        "ttl": section.ttl,
    }
    own = ", ".join(map(str, addresses))
    return Rendered(
        files={config_file(settings): File(json.dumps(config, indent=1) + "\n")},
        ruleset=Ruleset(
            rules={
                INPUT: (
                    (
                        300,
                        f"iifname @public_interfaces ip daddr {{ {own} }} "
                        f"meta l4proto {{ tcp, udp }} th dport {PORT} accept",
                    ),
                )
            }
        ),
        units=(
            Unit(
                name=UNIT,
                argv=(sys.executable, "-m", "consoleproxy.services.dns.server", str(config_file(settings))),
                user=USER,
                capabilities=frozenset({"net_bind_service"}),
            ),
        ),
    )
