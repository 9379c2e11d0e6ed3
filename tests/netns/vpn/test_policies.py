"""Every IKE and ESP policy that the API accepts connects: many tunnels at once between two routers.

Each tunnel has public addresses and networks of its own. Not every combination: every cipher with every hash and
every group, and every hash with every group, of IKE and of ESP, in both versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import cycle, product
from typing import Any, get_args

import pytest

from router.services.vpn.model import AEAD, NOT_IKEV1, Cipher, Group, Hash
from tests.netns.lab import Lab
from tests.netns.vpn.sites import Raw, Site, connection, site, with_networks
from tests.wait import wait_for

CIPHERS, HASHES = get_args(Cipher), get_args(Hash)
GROUPS: tuple[str | None, ...] = (*get_args(Group), None)


def policies(version: str) -> list[tuple[Raw, Raw]]:
    """IKE and ESP policies."""
    usable = [cipher for cipher in CIPHERS if version == "ikev2" or cipher not in AEAD]
    inside = [cipher for cipher in CIPHERS if version == "ikev2" or cipher not in NOT_IKEV1]
    inner, outer = _combined(inside), cycle(_combined(usable)[::-1])
    return [
        (ike, {**esp, "hash": None} if esp["encryption"] in AEAD else esp)
        for esp, ike in zip(inner, outer, strict=False)
    ]


def _combined(ciphers: Sequence[str]) -> list[Raw]:
    """Every cipher with every group; the hashes take turns, so that each meets all ciphers and groups."""
    return [
        {"encryption": cipher, "hash": HASHES[(one + other) % len(HASHES)], "group": group}
        for (one, cipher), (other, group) in product(enumerate(ciphers), enumerate(GROUPS))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["ikev1", "ikev2"])
def test_all_connect(lab: Lab, version: str) -> None:
    wanted = policies(version)
    first = _connected(lab, version, wanted)
    _all_answer(first, len(wanted))
    if version == "ikev1":
        return
    # the first keys of IKEv2 come with the IKE association: forward secrecy shows when they are renewed
    before = _spis(first)
    children = re.findall(r"(to-\S+-0): #", first.swanctl("--list-sas"))
    for child in children:
        first.swanctl("--rekey", "--child", child)
    wait_for(lambda: before.isdisjoint(_spis(first)), 240, "all keys to be new", interval=0.5)
    _all_answer(first, len(wanted))


# what a kernel does with these is its own: a virtual machine's does all that userspace's does
@pytest.mark.any_hypervisor
def test_every_cipher_with_every_hash_carries_packets(lab: Lab) -> None:
    wanted: list[tuple[Raw, Raw]] = [
        ({"encryption": "aes256", "hash": "sha256", "group": "ecp256"}, {"encryption": cipher, "hash": hash})
        for cipher in CIPHERS
        for hash in ((None,) if cipher in AEAD else HASHES)
    ]
    _all_answer(_connected(lab, "ikev2", wanted), len(wanted))


def _connected(lab: Lab, version: str, wanted: Sequence[tuple[Raw, Raw]]) -> Site:
    """Two sites with a connection for each of the policies of IKE and of ESP, all connected; the first of them."""
    count = len(wanted)
    outside = lab.segment("public")
    ends = [[f"203.0.113.{first + one}" for one in range(count)] for first in (10, 100)]
    sites = [site(lab, number, outside, tuple(ends[number - 1]), far=number == 2) for number in (1, 2)]
    for number, built in enumerate(sites, 1):
        with_networks(built, number, count)
    for number, built in enumerate(sites, 1):
        other = 3 - number
        built.push(
            *(
                connection(
                    ends[number - 1][one],
                    ends[other - 1][one],
                    (f"10.{number}.{10 + one}.0/24",),
                    (f"10.{other}.{10 + one}.0/24",),
                    version=version,
                    ike=ike,
                    esp=esp,
                    # the second one waits, so that there is one tunnel for each
                    passive=number == 2,
                )
                for one, (ike, esp) in enumerate(wanted)
            )
        )
    by_id = {f"to-{ends[side][one]}": policy for side in (0, 1) for one, policy in enumerate(wanted)}

    def connected() -> bool:
        # at both ends: with IKEv1 the one that calls has its keys before the other
        left: dict[str, Any] = {
            id: (by_id[id], condition)
            for built in sites
            for id, condition in built.conditions().items()
            if condition["state"] != "Connected"
        }
        assert not left, left
        return True

    wait_for(connected, 240, "all to connect", interval=0.5)
    return sites[0]


def _spis(built: Site) -> set[str]:
    return set(re.findall(r"in  ([0-9a-f]{8})", built.swanctl("--list-sas")))


def _all_answer(built: Site, count: int) -> None:
    script = (
        f"for i in $(seq 10 {9 + count}); do "
        "busybox ping -c 1 -W 5 -I 10.1.$i.10 10.2.$i.10 >/dev/null || echo $i; done"
    )
    assert built.guest.run(["sh", "-c", script], timeout=300).stdout == ""
