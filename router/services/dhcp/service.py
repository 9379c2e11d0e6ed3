"""DHCP and DNS: dnsmasq, reloaded for guests, restarted only when a network or a resolver changes."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, CheckFailedError, CommandError, ProbeError
from appliance.run import run
from appliance.settings import Settings
from router.document import RouterState
from router.memo import KeyedMemo
from router.services.dhcp import checksum, dns, leases
from router.services.dhcp.model import Dhcp, DhcpNetwork
from router.services.dhcp.render import (
    MOST_LEASES,
    PROGRAM,
    ROUTER_NAME,
    UNIT,
    HostMemo,
    config_file,
    host_lines,
    hosts_file,
    lease_file,
    names_file,
    render,
)

log = logging.getLogger(__name__)

#: seconds that dnsmasq may take to start or to reread its lists
PATIENCE = 3.0
#: releases sent before looking at what dnsmasq made of them (its socket holds some 250 packets), and seconds for that
BURST, RESEND = 32, 0.3

_DNS_COUNTERS = {
    "hits.bind": ("gatehouse_dns_cache_hits_total", "Names answered from the router's own names and its cache"),
    "misses.bind": ("gatehouse_dns_cache_misses_total", "Names asked of the zone's resolvers"),
    "evictions.bind": ("gatehouse_dns_cache_evictions_total", "Names pushed out of the cache before their time"),
}


def _served(state: RouterState | None) -> tuple[DhcpNetwork, ...]:
    return state.dhcp.networks if state is not None and state.dhcp is not None else ()


def _standby(state: RouterState) -> bool:
    """Whether this router holds no guest addresses now, so that nobody can ask it."""
    redundancy = state.interfaces.redundancy
    return redundancy is not None and redundancy.state == "standby"


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise ApplyError(f"dnsmasq did not {what} within {PATIENCE:g} s")
        time.sleep(0.002)


def _answers(network: DhcpNetwork, host: Host) -> bool:
    try:
        dns.ask(str(network.router), ROUTER_NAME, timeout=0.5)
    except (OSError, ValueError) as error:
        if host.supervisor.pid(UNIT) is None:
            raise ApplyError(f"dnsmasq ended: {host.supervisor.log_tail(UNIT)}") from error
        return False
    return True


def _settle(networks: tuple[DhcpNetwork, ...], host: Host) -> None:
    """Return when dnsmasq has started, or has acted on the SIGHUP it was sent.

    It acts on signals before it reads packets, each time round its loop. The first answer may come from the round
    that the signal arrived in; a second one cannot.
    """
    for network in (*networks, networks[0]):
        _until(partial(_answers, network, host), f"answer on {network.router}")


def _stale(dhcp: Dhcp, host: Host) -> list[tuple[leases.Lease, DhcpNetwork]]:
    """Leases on networks that are served, of NICs that are gone or have another address now."""
    file, meet = lease_file(host.settings), partial(_answers, dhcp.networks[0], host)
    deadline = time.monotonic() + PATIENCE
    while (held := leases.read_whole(file, meet)) is None:
        if time.monotonic() > deadline:
            raise ApplyError(f"dnsmasq did not leave {file} alone for {PATIENCE:g} s")
    granted = {entry.address: entry.mac for entry in dhcp.hosts}
    left = [lease for lease in held if granted.get(lease.address) != lease.mac]
    return [(lease, network) for lease in left for network in dhcp.networks if lease.address in network.subnet]


def _release_stale(dhcp: Dhcp, host: Host) -> None:
    """Give back what ``_stale`` finds, so that dnsmasq lets the next owner of an address have it at once.

    With a thousand leases each one takes it some milliseconds, for it writes the whole file again.
    """
    fewest, deadline = MOST_LEASES, 0.0
    while left := _stale(dhcp, host):
        now = time.monotonic()
        if len(left) < fewest:
            fewest, deadline = len(left), now + PATIENCE
        elif now > deadline:
            raise ApplyError(f"dnsmasq keeps the lease of {left[0][0].mac}, which is gone, on {left[0][0].address}")
        burst = left[:BURST]
        for lease, network in burst:
            leases.release(lease, network.interface, network.router)
        # sent again after a while: UDP may have lost some
        while time.monotonic() < now + RESEND and not set(burst).isdisjoint(_stale(dhcp, host)):
            time.sleep(0.002)


def _dhcp_socket_open() -> bool:
    """Whether anything in this network namespace is bound to UDP port 67 (proc_pid_net(5), udp)."""
    lines = Path("/proc/net/udp").read_text("ascii").splitlines()[1:]
    return any(line.split()[1].endswith(":0043") for line in lines)


class DhcpService(BaseService):
    name = "dhcp"
    after = ("interfaces",)
    inputs = ("dhcp", "vpn")

    def __init__(self) -> None:
        self._memo: HostMemo = KeyedMemo(host_lines)
        #: whether checksums of DHCP replies were being filled in when last looked at
        self._filled = False

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        return render(state, settings, self._memo)

    def check(self, rendered: Rendered, staged: Mapping[Path, Path], host: Host) -> None:
        config, current = staged.get(config_file(host.settings)), config_file(host.settings)
        if config is None or (current.exists() and current.read_bytes() == config.read_bytes()):
            return  # a guest more or less: this configuration has been checked
        try:
            run([PROGRAM, "--test", f"--conf-file={config}"])
        except CommandError as error:
            raise CheckFailedError(f"dnsmasq refuses its configuration: {error.stderr.strip()}") from error

    def apply(self, change: Change, host: Host) -> None:
        before, after = _served(change.before), _served(change.after)
        if change.force or bool(before) != bool(after):
            self._filled = checksum.fill(served=bool(after))
        state = change.after
        if state is None or not after:
            return
        if UNIT not in change.started:
            if config_file(host.settings) in change.files:
                host.supervisor.restart(UNIT)
            elif change.force or change.files & {hosts_file(host.settings), names_file(host.settings)}:
                host.supervisor.signal(UNIT, signal.SIGHUP)
            else:
                return
        if not _standby(state):
            _settle(after, host)
            _release_stale(state.dhcp, host)

    def drift(self, state: RouterState, host: Host) -> str | None:
        before, self._filled = self._filled, checksum.filled()
        # what never was cannot be had of this kernel
        return "DHCP replies lack their checksums" if before and not self._filled else None

    def probe(self, state: RouterState, host: Host) -> None:
        if not _served(state):
            return
        if host.supervisor.pid(UNIT) is None or not _dhcp_socket_open():
            raise ProbeError(f"dnsmasq does not listen for DHCP: {host.supervisor.log_tail(UNIT, 3)}")
        for network in () if _standby(state) else _served(state):
            name = f"{ROUTER_NAME}.{network.domain}"
            try:
                answer = dns.ask(str(network.router), name)
            except (OSError, ValueError) as error:
                raise ProbeError(f"DNS on {network.router} does not answer: {error}") from error
            if str(network.router) not in answer.values:
                raise ProbeError(f"DNS on {network.router} says {name} is {answer.values}, code {answer.code}")

    def metrics(self, state: RouterState, host: Host) -> str:
        networks = _served(state)
        if not networks:
            return ""
        lines = [
            "# HELP gatehouse_dhcp_leases Leases that guests hold",
            "# TYPE gatehouse_dhcp_leases gauge",
            f"gatehouse_dhcp_leases {len(leases.read(lease_file(host.settings)))}",
        ]
        if not _standby(state):
            for name, (metric, description) in _DNS_COUNTERS.items():
                try:
                    values = dns.ask(str(networks[0].router), name, dns.TXT, dns.CHAOS).values
                except (OSError, ValueError):
                    break  # the probe tells that DNS is down; here a value is left out
                for value in values:
                    lines += [f"# HELP {metric} {description}", f"# TYPE {metric} counter", f"{metric} {value}"]
        return "\n".join(lines) + "\n"


SERVICE = DhcpService()
