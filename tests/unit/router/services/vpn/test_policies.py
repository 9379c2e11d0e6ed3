"""The policies that the test with real tunnels uses leave no pair of algorithms out."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from router.services.vpn.model import AEAD, NOT_IKEV1
from tests.netns.vpn.test_policies import CIPHERS, GROUPS, HASHES, policies


@pytest.mark.parametrize("version", ["ikev1", "ikev2"])
@pytest.mark.parametrize("phase", [0, 1])
def test_every_pair(version: str, phase: int) -> None:
    used: list[dict[str, Any]] = [pair[phase] for pair in policies(version)]
    barred = () if version == "ikev2" else NOT_IKEV1 if phase == 1 else AEAD
    ciphers = [cipher for cipher in CIPHERS if cipher not in barred]
    assert {(one["encryption"], one["group"]) for one in used} == set(product(ciphers, GROUPS))
    if phase == 0:
        assert {(one["encryption"], one["hash"]) for one in used} == set(product(ciphers, HASHES))
        missing = set(product(HASHES, GROUPS)) - {(one["hash"], one["group"]) for one in used}
        assert len(missing) <= (len(GROUPS) if version == "ikev1" else 0)  # IKEv1 has fewer ciphers than hashes
    else:
        plain = [cipher for cipher in ciphers if cipher not in AEAD]
        assert {(one["encryption"], one["hash"]) for one in used if one["hash"]} == set(product(plain, HASHES))
