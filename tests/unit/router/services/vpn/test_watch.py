"""When the watch calls a peer and what it says of a connection, with a charon that is played."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.document import RouterState
from router.services.vpn import watch as module
from router.services.vpn.charon import Charon, Tunnel
from router.services.vpn.connections import children, name
from router.services.vpn.model import SiteConnection
from router.services.vpn.watch import Watch
from tests.unit.router.services.vpn.documents import vpn_state


class _Played:
    """The commands of charon that a look uses."""

    def __init__(self) -> None:
        self.up: list[Tunnel] = []
        self.called: list[str] = []

    def tunnels(self) -> list[Tunnel]:
        return self.up

    def initiate(self, child: str) -> None:
        self.called.append(child)


def _site(**more: Any) -> SiteConnection:
    vpn = RouterState.model_validate(vpn_state()).vpn
    assert vpn is not None
    # the lower address calls at once
    return vpn.connections[0].model_copy(update={"local": vpn.connections[0].peer, **more})


def _tunnel(site: SiteConnection, *installed: str, established: bool = True) -> Tunnel:
    return Tunnel(name(site), "1", established, frozenset(installed), 0, 0)


def _state(watch: Watch) -> tuple[str, str]:
    [condition] = watch.conditions().values()
    return condition.state, condition.detail


def _line(site: SiteConnection, text: str) -> dict[str, bytes]:
    return {"ikesa-name": name(site).encode(), "msg": text.encode()}


def test_calls_what_is_missing_once_and_not_what_is_under_way() -> None:
    site, played, watch = _site(), _Played(), Watch(Path("/nowhere"))
    commands = cast(Charon, played)
    watch.see((site,))
    first, second = children(site)
    watch._look(commands)
    watch._look(commands)
    assert played.called == [first, second]
    assert _state(watch) == ("Connecting", "")
    watch._tried[name(site)].due = 0
    played.up = [_tunnel(site, established=False)]
    watch._look(commands)
    assert played.called == [first, second]
    played.up = [_tunnel(site, first)]
    watch._look(commands)
    assert played.called == [first, second, second]
    assert _state(watch) == ("Connecting", "1 of 2 pairs of networks")
    played.up = [_tunnel(site, first, second)]
    watch._look(commands)
    assert _state(watch) == ("Connected", "")
    played.up = []
    watch._look(commands)
    assert _state(watch)[0] == "Disconnected"


def test_calls_also_while_strangers_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    site, played, watch = _site(), _Played(), Watch(Path("/nowhere"))
    clock = count()
    # a second between any two moments
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    watch.see((site,))

    def noise() -> Iterator[tuple[bytes, dict[str, bytes]]]:
        for _ in range(50):
            yield b"log", {"msg": b"received unsupported IKE version 9.9 from 198.51.100.66"}

    watch._follow(noise(), cast(Charon, played))
    assert played.called[:2] == list(children(site))


def test_a_passive_one_is_never_called() -> None:
    site, played, watch = _site(passive=True), _Played(), Watch(Path("/nowhere"))
    watch.see((site,))
    watch._look(cast(Charon, played))
    assert played.called == []
    assert _state(watch) == ("Disconnected", "waits for the peer")


def test_a_refusal_is_an_error_with_its_reason_until_the_tunnel_is_up() -> None:
    site, played, watch = _site(), _Played(), Watch(Path("/nowhere"))
    commands = cast(Charon, played)
    watch.see((site,))
    watch._hear(_line(site, "received AUTHENTICATION_FAILED notify error"))
    watch._look(commands)
    assert _state(watch) == ("Error", "the peer refused the preshared key or the identity (AUTHENTICATION_FAILED)")
    watch._hear(_line(site, "giving up after 4 retransmits"))
    watch._look(commands)
    assert _state(watch) == ("Connecting", "198.51.100.9 does not answer")
    played.up = [_tunnel(site, *children(site))]
    watch._look(commands)
    watch._hear(_line(site, "received NO_PROPOSAL_CHOSEN error notify"))
    watch._look(commands)
    assert _state(watch) == ("Connected", "")


def test_seeing_the_same_connection_again_forgets_nothing() -> None:
    site, played, watch = _site(), _Played(), Watch(Path("/nowhere"))
    watch.see((site,))
    played.up = [_tunnel(site, *children(site))]
    watch._look(cast(Charon, played))
    watch.see((site,))
    assert _state(watch)[0] == "Connected"
    watch.again("office")
    assert _state(watch)[0] == "Connecting"


def test_a_peer_that_calls_itself_otherwise_is_named() -> None:
    site, played, watch = _site(passive=True), _Played(), Watch(Path("/nowhere"))
    watch.see((site,))
    asked = f"looking for peer configs matching {site.local}[{site.local}]...{site.peer}"
    watch._hear({"msg": f"{asked}[{site.peer}]".encode()})
    watch._look(cast(Charon, played))
    assert _state(watch)[0] == "Disconnected"
    watch._hear({"msg": f"{asked}[192.168.9.9]".encode()})
    watch._look(cast(Charon, played))
    assert _state(watch) == ("Error", "the peer calls itself 192.168.9.9, not 198.51.100.9")
    # IKEv1's words
    named = _site(passive=True, peer_id="192.168.9.9")
    watch.see((named,))
    watch._hear({"msg": f"looking for pre-shared key peer configs matching {named.local}...{named.peer}[me]".encode()})
    watch._look(cast(Charon, played))
    assert _state(watch) == ("Error", "the peer calls itself me, not 192.168.9.9")
