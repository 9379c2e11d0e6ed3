"""VPN: strongSwan's charon, whose connections and secrets are loaded over vici."""

from __future__ import annotations

import time
from typing import Any

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ApplyError, CommandError, ProbeError
from appliance.settings import Settings
from router.document import RouterState
from router.services.vpn import device
from router.services.vpn.charon import Charon, RefusedError, charon
from router.services.vpn.connections import identity, load_conn, load_shared, name
from router.services.vpn.model import Vpn
from router.services.vpn.plane import Plane, detect
from router.services.vpn.remote.bring import missing
from router.services.vpn.remote.ike import is_ours
from router.services.vpn.remote.part import RemotePart
from router.services.vpn.render import UNIT, config_file, render, served, socket_file
from router.services.vpn.tracked import cut
from router.services.vpn.watch import Watch

#: seconds that charon may take to start
PATIENCE = 10.0


def _await(host: Host) -> None:
    """Return when charon answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with charon(socket_file(host.settings)) as daemon:
                daemon.connections()
                return
        except OSError as error:
            if host.supervisor.pid(UNIT) is None or time.monotonic() > deadline:
                raise ApplyError(f"charon did not start: {host.supervisor.log_tail(UNIT)}") from error
            time.sleep(0.01)


def _bring(daemon: Charon, vpn: Vpn, plane: Plane, rekeyed: frozenset[str]) -> None:
    """Make charon have exactly these connections; ``rekeyed``: ids of those whose secret is another one now."""
    wanted = {name(one): one for one in vpn.connections}
    loaded = daemon.connections()
    for gone in sorted(key for key in loaded - wanted.keys() if not is_ours(key)):
        daemon.unload(gone)
    for stray in sorted(_strays(daemon, vpn)):
        daemon.terminate(stray)
    secrets = {id for id in daemon.secrets() if not is_ours(id)}
    for id in sorted(secrets - {one.id for one in vpn.connections}):
        daemon.unload_secret(id)
    for key, connection in wanted.items():
        # replaced by its id; an agent that was killed may have left another one
        daemon.load_secret(load_shared(connection))
        if key not in loaded:
            daemon.load(load_conn(connection, plane))
        elif connection.id in rekeyed:
            daemon.terminate(key)


class VpnService(BaseService):
    name = "vpn"
    after = ("interfaces", "firewall", "nat")
    inputs = ("vpn", "interfaces")

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._remote = RemotePart()

    def render(self, state: RouterState, settings: Settings) -> Rendered:
        vpn = served(state)
        return Rendered() if vpn is None else render(vpn, settings, detect())

    def part(self, change: Change, host: Host) -> None:
        before, after = served(change.before), served(change.after)
        if before is not None:
            self._remote.part(before.remote, after.remote if after is not None else ())

    def apply(self, change: Change, host: Host) -> None:
        vpn = served(change.after)
        if vpn is None:
            if self._watch is not None:
                self._watch.stop()
                self._watch = None
            self._remote.stop()
            if served(change.before) is not None:
                if detect().kernel:
                    device.remove()
                cut(served(change.before), None)
            return
        plane = detect()
        if plane.kernel:
            device.bring(vpn.routed)
        if UNIT not in change.started and config_file(host.settings) in change.files:
            host.supervisor.restart(UNIT)
        _await(host)
        device.hold(vpn.resolvers)
        before = served(change.before)
        rekeyed = _rekeyed(before, vpn)
        try:
            with charon(socket_file(host.settings)) as daemon:
                # one that has just started: what another had agreed on is of no use any more
                anew = not daemon.connections()
                if anew and plane.kernel:
                    device.forget()
                _bring(daemon, vpn, plane, rekeyed)
                then = before.remote if before is not None else ()
                self._remote.bring(daemon, then, vpn.remote, plane, host, anew=anew)
        except (OSError, RefusedError, CommandError) as error:
            raise ApplyError(f"the VPN connections cannot be loaded: {error}") from error
        cut(before, vpn)
        watch = self._watching(vpn, host)
        for id in rekeyed:
            watch.again(id)

    def _watching(self, vpn: Vpn, host: Host) -> Watch:
        if self._watch is None:
            self._watch = Watch(socket_file(host.settings))
            self._watch.see(vpn.connections)
            self._watch.start()
        self._watch.see(vpn.connections)
        return self._watch

    def drift(self, state: RouterState, host: Host) -> str | None:
        vpn = served(state)
        if vpn is None:
            return None
        if detect().kernel and (lost := device.missing(vpn.routed)):
            return lost
        if lost := device.unheld(vpn.resolvers):
            return lost
        try:
            with charon(socket_file(host.settings)) as daemon:
                wrong = _wrong(daemon, vpn)
        except OSError:
            return None  # the supervisor starts it again, the probe tells
        self._watching(vpn, host)  # an agent that adopted a running charon begins here
        self._remote.watch(vpn.remote, detect(), host)
        return wrong or self._remote.uninvited()

    def probe(self, state: RouterState, host: Host) -> None:
        vpn = served(state)
        if vpn is None:
            return
        try:
            with charon(socket_file(host.settings)) as daemon:
                lacking = _lacking(daemon, vpn)
        except OSError as error:
            raise ProbeError(f"charon does not answer: {error}; {host.supervisor.log_tail(UNIT, 3)}") from error
        if lacking:
            raise ProbeError(f"charon lacks connection {', '.join(lacking[:3])}")

    def metrics(self, state: RouterState, host: Host) -> str:
        vpn = served(state)
        if vpn is None or self._watch is None:
            return ""
        conditions = self._watch.conditions()
        lines = [
            "# HELP gatehouse_vpn_plane_info Where IPsec is done: by the kernel or in userspace",
            "# TYPE gatehouse_vpn_plane_info gauge",
            f'gatehouse_vpn_plane_info{{plane="{detect().name}"}} 1',
            "# HELP gatehouse_vpn_connection_up Whether a site-to-site connection is connected",
            "# TYPE gatehouse_vpn_connection_up gauge",
        ]
        lines += [
            f'gatehouse_vpn_connection_up{{connection="{id}"}} {int(one.state == "Connected")}'
            for id, one in sorted(conditions.items())
        ]
        return "\n".join(lines) + "\n"

    def report(self, host: Host) -> Any:
        """``{"connections": {id: {"state": ..., "detail": ...}}, "remote": {...}}``; None without any.

        ``remote`` is by public address: ``{"sessions": [{"user", "protocol", "client", "peer", "since"}], "log":
        [{"number", "event", "user", "protocol", "client", "peer", "at"}], "detail": text}``. ``event`` is
        ``connect`` or ``disconnect``; numbers of the log rise, also over restarts, and the oldest entries go.
        ``detail`` says what is not served and why.
        """
        if self._watch is None:
            return None
        return {
            "connections": {
                id: {"state": one.state, "detail": one.detail} for id, one in sorted(self._watch.conditions().items())
            },
            "remote": self._remote.report(),
        }


def _lacking(daemon: Charon, vpn: Vpn) -> list[str]:
    """Connections that charon should have and has not."""
    sites = {name(one) for one in vpn.connections} - daemon.connections()
    return sorted({*map(identity, sites), *missing(daemon, vpn.remote, detect())})


def _wrong(daemon: Charon, vpn: Vpn) -> str | None:
    """What charon has that it should not, or the other way round; None when nothing."""
    if lacking := _lacking(daemon, vpn):
        return f"charon lacks connection {', '.join(lacking[:3])}"
    if strays := sorted(map(identity, _strays(daemon, vpn))):
        return f"charon has tunnels of connection {', '.join(strays[:3])}, which is no more"
    return None


def _strays(daemon: Charon, vpn: Vpn) -> set[str]:
    """Names of connections that are not wanted and have tunnels: a call may begin while they are unloaded.

    Not of callers that charon has no connection for yet: these are "(unnamed)".
    """
    known = {one.connection for one in daemon.tunnels() if identity(one.connection) and not is_ours(one.connection)}
    return known - {name(one) for one in vpn.connections}


def _rekeyed(before: Vpn | None, after: Vpn) -> frozenset[str]:
    """Ids of the connections whose secret changed."""
    old = {one.id: one.psk for one in before.connections} if before is not None else {}
    return frozenset(one.id for one in after.connections if one.id in old and old[one.id] != one.psk)


SERVICE = VpnService()
