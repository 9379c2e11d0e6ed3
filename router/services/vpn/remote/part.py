"""Remote access as the part of the VPN service that it is: brought about, watched and reported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from appliance.engine.service import Host, Rendered
from appliance.netfilter.ruleset import merge
from appliance.settings import Settings
from router.services.vpn.charon import Charon
from router.services.vpn.plane import Plane
from router.services.vpn.remote import firewall, l2tp
from router.services.vpn.remote.bring import barred, bring
from router.services.vpn.remote.model import RemoteAccess
from router.services.vpn.remote.sessions import Session, Sessions, await_end, end


def served_by_l2tp(remote: Sequence[RemoteAccess], plane: Plane, settings: Settings) -> list[RemoteAccess]:
    """Where clients of L2TP are served; where not, ``RemotePart.report`` says why."""
    wanted = [one for one in remote if one.l2tp]
    return wanted if wanted and not l2tp.obstacle(plane, settings) else []


def render(remote: Sequence[RemoteAccess], settings: Settings, plane: Plane) -> Rendered:
    """What remote access adds to the VPN's files, rules and units."""
    if not remote:
        return Rendered()
    by_l2tp = served_by_l2tp(remote, plane, settings)
    rendered = l2tp.render(by_l2tp, settings)
    rules = merge([rendered.ruleset, firewall.ruleset(remote, l2tp=by_l2tp)])
    return Rendered(rendered.files, rules, rendered.units)


class RemotePart:
    """Keeps the watch over sessions while there is remote access."""

    def __init__(self) -> None:
        self._sessions: Sessions | None = None
        self._remote: Sequence[RemoteAccess] = ()
        self._obstacle = ""
        self._uninvited: set[Session] = set()

    def stop(self) -> None:
        """Watch no longer."""
        if self._sessions is not None:
            self._sessions.stop()
        self._sessions, self._remote, self._uninvited = None, (), set()

    def part(self, before: Sequence[RemoteAccess], after: Sequence[RemoteAccess]) -> None:
        """End sessions of L2TP that ``after`` shuts out, while packets still go to their clients. Raises OSError.

        A client that is told nothing believes itself connected for a minute and more. IKEv2's goodbye passes always.
        """
        then, now = ({str(one.address) for one in remote if one.l2tp} for remote in (before, after))
        if self._sessions is None or not then - now:
            return
        over = [one for one in self._sessions.look() if one.protocol == "l2tp" and one.address in then - now]
        end(over, self._sessions.socket)
        await_end(over)

    def bring(
        self,
        daemon: Charon,
        before: Sequence[RemoteAccess],
        after: Sequence[RemoteAccess],
        plane: Plane,
        host: Host,
        *,
        anew: bool,
    ) -> None:
        """Load ``after`` and end the sessions that it does not allow. Raises OSError and RefusedError.

        ``anew``: charon has just started, so that no session of L2TP has its IPsec any more.
        """
        bring(daemon, after, plane)
        sessions = self.watch(after, plane, host)
        if sessions is None:
            return
        found = sessions.look()
        lost = [one for one in found if anew and one.protocol == "l2tp"]
        if over := lost or barred(found, before, after):
            end(over, sessions.socket)

    def watch(self, remote: Sequence[RemoteAccess], plane: Plane, host: Host) -> Sessions | None:
        """Begin the watch, also over what an agent before this one brought about."""
        if not remote:
            self.stop()
            return None
        self._remote = remote
        self._obstacle = l2tp.obstacle(plane, host.settings)
        if self._sessions is None:
            self._sessions = Sessions(
                host.settings.run_dir / "vpn/charon.vici",
                l2tp.notes_dir(host.settings),
                partial(l2tp.peer_of, host.supervisor),
            )
            self._sessions.start()
        return self._sessions

    def uninvited(self) -> str | None:
        """Who is connected that may not, None when nobody: somebody who came in while the users were changed."""
        if self._sessions is None:
            return None
        before, found = self._uninvited, set(barred(self._sessions.now(), self._remote, self._remote))
        self._uninvited = found
        # seen twice: to say goodbye takes a moment
        stay = sorted((one.user, one.address) for one in before & found)
        return f"{stay[0][0]} is connected to {stay[0][1]}, and is no user of it" if stay else None

    def report(self) -> dict[str, Any]:
        """Public address -> sessions, log of connects and disconnects, and what is not served and why."""
        if self._sessions is None:
            return {}
        return {
            str(one.address): {
                **self._sessions.report(str(one.address)),
                "detail": self._obstacle if one.l2tp else "",
            }
            for one in self._remote
        }
