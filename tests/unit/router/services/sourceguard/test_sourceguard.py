"""The source guard: what is refused, and what the kernel is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from appliance.netfilter.transaction import replacement
from router.memo import EntryMemo
from router.services.sourceguard.model import SourceGuard
from router.services.sourceguard.render import elements, render

SOURCES = [
    {"id": "nic-1", "mac": "02:00:00:00:00:01", "address": "198.18.0.11"},
    {"id": "nic-2", "mac": "02:00:00:00:00:02", "address": "198.18.0.12"},
]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "nic-1"}, "nic-1 is given twice"),
        ({"address": "198.18.0.11"}, "198.18.0.11 is given to two NICs"),
        ({"mac": "00:00"}, "six hexadecimal pairs"),
    ],
)
def test_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SourceGuard.model_validate({"interfaces": ["eth0"], "sources": [SOURCES[0], SOURCES[1] | change]})


def test_pairs() -> None:
    guard = SourceGuard.model_validate({"interfaces": ["eth0"], "sources": SOURCES})
    lines = replacement(render(guard, EntryMemo(elements))).splitlines()
    assert (
        "add element inet gatehouse sourceguard_pairs "
        "{ 198.18.0.11 . 02:00:00:00:00:01, 198.18.0.12 . 02:00:00:00:00:02 }" in lines
    )
    assert (
        "add rule inet gatehouse raw_prerouting iifname @sourceguard_interfaces ip saddr @sourceguard_addresses "
        "ip saddr . ether saddr != @sourceguard_pairs drop" in lines
    )
