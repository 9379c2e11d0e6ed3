"""What the worker reads, the sandbox beside it, the ports that are open, and what each of the two may reach.

``storage.json`` is the section itself, secrets and all, with what the worker must know of the rest.
"""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import INPUT
from appliance.netfilter.boxes import disjoint
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.settings import Settings
from ssvm.document import SsvmState
from ssvm.fetch.addresses import NEVER, PRIVATE
from ssvm.services.storage.model.section import Storage
from ssvm.services.storage.model.stores import DirectoryStore
from ssvm.services.storage.nfs import directory as nfs_dir

WORKER, SANDBOX = "storage", "images"
#: Debian's user for what keeps data; the sandbox needs no file of its own (base-passwd)
WORKER_USER, SANDBOX_USER = "backup", "nobody"
EGRESS = "storage_egress"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "storage/storage.json"


def run_dir(settings: Settings) -> Path:
    """Holds the worker's own socket, by which the agent asks it."""
    return settings.run_dir / "storage"


def socket_file(settings: Settings) -> Path:
    return run_dir(settings) / "worker.sock"


def state_dir(settings: Settings) -> Path:
    """Holds what became of jobs, and the parts of those whose stores are elsewhere."""
    return settings.state_dir / "storage"


def configuration(state: SsvmState, storage: Storage, settings: Settings) -> dict[str, Any]:
    nics = state.interfaces
    inner = [net for role in ("control", "management") for nic in nics.of_role(role) for net in nic.subnets]
    own = [IPv4Network(address.ip) for nic in nics.interfaces for address in nic.addresses]
    control = [net for nic in nics.of_role("control") for net in nic.subnets]
    return {
        "listen": [str(address) for address in nics.public_addresses()],
        "peer_listen": [str(address) for address in (*nics.public_addresses(), *_inner_addresses(state))],
        "socket": str(socket_file(settings)),
        "state": str(state_dir(settings)),
        "nfs": str(nfs_dir(settings)),
        "sandbox": SANDBOX,
        # networks that no download reaches, and those that it reaches as internal sites only
        "closed": [str(net) for net in dict.fromkeys([*own, *control])],
        "private": [str(net) for net in dict.fromkeys([*inner, *storage.storage_networks])],
        "storage": json.loads(storage.model_dump_json()),
    }


def render(state: SsvmState, settings: Settings) -> Rendered:
    """Nothing at all without a section."""
    storage = state.storage
    if storage is None:
        return Rendered()
    text = json.dumps(configuration(state, storage, settings), indent=1) + "\n"
    directories = tuple(Path(store.path) for store in storage.stores if isinstance(store, DirectoryStore))
    return Rendered(
        files={config_file(settings): File(text, mode=0o600, owner=WORKER_USER)},
        ruleset=_ruleset(state, storage),
        units=(
            Unit(
                name=WORKER,
                argv=(sys.executable, "-m", "ssvm.services.storage.worker", str(config_file(settings))),
                user=WORKER_USER,
                capabilities=frozenset({"net_bind_service"}),
                # exports come and go without a restart
                writable=(run_dir(settings), state_dir(settings), nfs_dir(settings), *directories),
            ),
            Unit(
                name=SANDBOX,
                argv=(sys.executable, "-m", "ssvm.formats.sandbox", SANDBOX, WORKER_USER),
                user=SANDBOX_USER,
            ),
        ),
    )


def _ruleset(state: SsvmState, storage: Storage) -> Ruleset:
    """In: uploads, links and other SSVMs. Out: public addresses by the public side, what is named by the other side.

    The worker checks where downloads go by itself (ssvm/fetch/addresses.py); this holds whatever becomes of it.
    """
    public, inner = state.interfaces.public_addresses(), _inner_addresses(state)
    rules_in = []
    if public and storage.certificate is not None:
        rules_in.append((300, f"iifname @public_interfaces ip daddr {_set(public)} tcp dport {storage.port} accept"))
    if (public or inner) and storage.peer is not None:
        rules_in.append((301, f"ip daddr {_set((*public, *inner))} tcp dport {storage.peer_port} accept"))
    worker = f'meta skuid "{WORKER_USER}"'
    resolvers = {f"{address}": "" for address in storage.resolvers}
    return Ruleset(
        chains={EGRESS: "type filter hook output priority filter; policy accept;"},
        sets={
            "storage_never": _networks(NEVER),
            "storage_private": _networks(PRIVATE),
            "storage_open": _networks((*storage.internal_sites, *storage.storage_networks)),
            "storage_resolvers": Set("type ipv4_addr;", resolvers),
        },
        rules={
            INPUT: tuple(rules_in),
            EGRESS: (
                (0, "ct state established,related accept"),
                (300, f'meta skuid "{SANDBOX_USER}" reject with icmpx admin-prohibited'),
                (310, f"{worker} ip daddr @storage_resolvers meta l4proto {{ tcp, udp }} th dport 53 accept"),
                (320, f"{worker} ip daddr @storage_never reject with icmpx admin-prohibited"),
                (330, f"{worker} oifname @public_interfaces ip daddr != @storage_private accept"),
                (340, f"{worker} oifname != @public_interfaces ip daddr @storage_open accept"),
                (900, f"{worker} reject with icmpx admin-prohibited"),
            ),
        },
    )


def _inner_addresses(state: SsvmState) -> tuple[IPv4Address, ...]:
    return tuple(address.ip for nic in state.interfaces.of_role("management") for address in nic.addresses)


def _set(addresses: tuple[IPv4Address, ...]) -> str:
    return f"{{ {', '.join(map(str, addresses))} }}"


def _networks(networks: tuple[IPv4Network, ...]) -> Set:
    ranges = disjoint([((int(net.network_address), int(net.broadcast_address)),) for net in networks])
    elements = {_range(low, high): "" for ((low, high),) in ranges}
    return Set("type ipv4_addr; flags interval;", elements)


def _range(low: int, high: int) -> str:
    return f"{IPv4Address(low)}-{IPv4Address(high)}" if low != high else f"{IPv4Address(low)}"
