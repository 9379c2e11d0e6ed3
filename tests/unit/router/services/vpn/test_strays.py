"""Which tunnels of charon's are nobody's, with a charon that is played."""

from __future__ import annotations

from typing import cast

from router.document import RouterState
from router.services.vpn.charon import Charon, Tunnel
from router.services.vpn.connections import name
from router.services.vpn.service import _strays
from tests.unit.router.services.vpn.documents import vpn_state


class _Played:
    def __init__(self, *names: str) -> None:
        self.names = names

    def tunnels(self) -> list[Tunnel]:
        return [
            Tunnel(one, "1", established=False, installed=frozenset(), bytes_in=0, bytes_out=0) for one in self.names
        ]


def test_only_what_was_a_connection_of_a_document() -> None:
    vpn = RouterState.model_validate(vpn_state()).vpn
    assert vpn is not None
    wanted = name(vpn.connections[0])
    # charon's own word for a caller that has not said who it is
    played = _Played(wanted, "office.0123456789", "(unnamed)", "remote/203.0.113.2/ikev2/0123456789")
    assert _strays(cast(Charon, played), vpn) == {"office.0123456789"}
