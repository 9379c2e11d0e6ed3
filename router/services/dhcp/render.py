"""What dnsmasq reads: its configuration, which takes a restart, and two lists, which take SIGHUP only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from appliance.engine.service import File, Rendered, Unit
from appliance.netfilter.base import ACCEPT, INPUT
from appliance.netfilter.ruleset import Ruleset
from appliance.settings import Settings
from appliance.templates import fill
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.dhcp.model import Dhcp, DhcpHost, DhcpNetwork, DhcpRoute
from router.services.vpn.plane import INTERFACE
from router.services.vpn.remote.model import RemoteAccess

#: interface -> domain
Domains = dict[str, str]
HostMemo = KeyedMemo[Domains, DhcpHost, tuple[str, str]]

UNIT = "dnsmasq"
PROGRAM = "/usr/sbin/dnsmasq"
#: must exist on the appliance; Debian's dnsmasq-base makes it
USER = "dnsmasq"
#: dnsmasq's own default of 1,000 is too low, and the addresses of a network are the real limit
MOST_LEASES = 65536
#: tag of a guest's NICs that are not its default one
SECONDARY = "secondary"
#: what dnsmasq takes for an order or a lease time, not for a name (dnsmasq(8), --dhcp-host)
_DNSMASQ_WORD = re.compile("ignore|infinite|[0-9]+[smhdw]?", re.IGNORECASE)
#: the name under which guests find the router
ROUTER_NAME = "data-server"


def config_file(settings: Settings) -> Path:
    return settings.config_dir / "dhcp/dnsmasq.conf"


def hosts_file(settings: Settings) -> Path:
    """dhcp-hostsfile: which MAC gets which address."""
    return settings.config_dir / "dhcp/hosts"


def names_file(settings: Settings) -> Path:
    """addn-hosts: names and their addresses."""
    return settings.config_dir / "dhcp/names"


def lease_file(settings: Settings) -> Path:
    """In memory: dnsmasq rewrites and flushes the whole file for each lease, which a disk makes slow.

    Nothing depends on it after a reboot: addresses follow from the document, and an authoritative server confirms
    one that it has no lease for (RFC 2131 section 4.3.2, DHCPREQUEST in RENEWING and INIT-REBOOT).
    """
    return settings.run_dir / "dhcp/leases"


def _pairs(routes: Iterable[DhcpRoute], *, default: bool) -> str:
    chosen = (route for route in routes if default or not route.default_only)
    return ",".join(f"{route.destination},{route.gateway}" for route in chosen)


def _config(dhcp: Dhcp, remote: Sequence[RemoteAccess], settings: Settings) -> str:
    return fill(
        __package__,
        "dnsmasq.conf.j2",
        networks=dhcp.networks,
        remote=remote,
        tunnels=INTERFACE,
        resolvers=dhcp.resolvers,
        exposed=list(dhcp.resolvers) if dhcp.expose_resolvers else [],
        pairs=_pairs,
        secondary=SECONDARY,
        most_leases=MOST_LEASES,
        leases=lease_file(settings),
        hosts=hosts_file(settings),
        names=names_file(settings),
    )


def host_lines(domains: Domains, host: DhcpHost) -> tuple[str, str]:
    """A guest's line of the hosts file and of the names file (hosts(5))."""
    tag = "" if host.default else f"set:{SECONDARY},"
    address, name, full = str(host.address), host.name, f"{host.name}.{domains[host.interface]}"
    # with its domain such a name cannot be taken for anything else, and the guest is told it without
    known = full if _DNSMASQ_WORD.fullmatch(name) else name
    return f"{host.mac},{tag}{address},{known}\n", f"{address} {full} {name}\n"


def _own_names(dhcp: Dhcp) -> Iterator[str]:
    """After the guests: the first line of an address is what its PTR record says."""
    for network in dhcp.networks:
        yield f"{network.router} {ROUTER_NAME}.{network.domain} {ROUTER_NAME}\n"
    for record in dhcp.records:
        yield f"{record.address} {record.name}\n"


def _ruleset(networks: Iterable[DhcpNetwork]) -> Ruleset:
    """Open DHCP, and DNS at the router's own address, on each guest interface."""
    rules: list[tuple[int, str]] = []
    for nic in dict.fromkeys(network.interface for network in networks):
        rules.append((300, f'iifname "{nic}" udp dport 67 {ACCEPT}'))
    for network in networks:
        nic, own = network.interface, network.router
        rules.append((300, f'iifname "{nic}" ip daddr {own} meta l4proto {{ tcp, udp }} th dport 53 {ACCEPT}'))
    return Ruleset(rules={INPUT: tuple(rules)})


def render(state: RouterState, settings: Settings, memo: HostMemo) -> Rendered:
    """Everything DHCP and DNS need; nothing at all without networks to serve. ``memo`` is one of ``host_lines``."""
    dhcp = state.dhcp
    if dhcp is None or not dhcp.networks:
        return Rendered()
    lines = memo.map({network.interface: network.domain for network in dhcp.networks}, dhcp.hosts)
    hosts, names = "".join([host for host, _ in lines]), "".join([name for _, name in lines])
    return Rendered(
        files={
            config_file(settings): File(_config(dhcp, state.vpn.remote if state.vpn else (), settings)),
            hosts_file(settings): File(hosts, mode=0o640, owner=USER),
            names_file(settings): File(names + "".join(_own_names(dhcp)), mode=0o640, owner=USER),
        },
        ruleset=_ruleset(dhcp.networks),
        units=(
            Unit(
                name=UNIT,
                argv=(PROGRAM, "--keep-in-foreground", f"--conf-file={config_file(settings)}"),
                user=USER,
                # sending to guests that have no address yet (ARP entry, raw ICMP), ports 53 and 67
                capabilities=frozenset({"net_admin", "net_raw", "net_bind_service"}),
                writable=(lease_file(settings).parent,),
            ),
        ),
    )
