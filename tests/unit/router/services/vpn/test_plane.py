"""Which plane is chosen, with a kernel that is played."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from appliance.errors import CommandError
from router.services.vpn import plane
from router.services.vpn.plane import KERNEL, USERSPACE, Plane


class _Kernel:
    """Interfaces and security associations, of which it takes each once; ``capable``: it has xfrm interfaces."""

    def __init__(self, capable: bool) -> None:
        self.capable = capable
        self.held: set[str] = set()

    def run(self, argv: Sequence[str]) -> None:
        kind, verb = ("state", argv[3]) if argv[1] == "xfrm" else ("link", argv[2])
        if not self.capable or (kind in self.held) != (verb == "delete"):
            raise CommandError(list(argv), 2, "File exists")
        self.held ^= {kind}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    plane.detect.cache_clear()
    yield
    plane.detect.cache_clear()


@pytest.mark.parametrize(
    ("capable", "left", "expected"),
    [
        (True, [], KERNEL),
        (False, [], USERSPACE),
        # by an agent that was killed while it tried
        (True, ["link"], KERNEL),
        (True, ["link", "state"], KERNEL),
    ],
)
def test_found_out_by_trying(monkeypatch: pytest.MonkeyPatch, capable: bool, left: list[str], expected: Plane) -> None:
    kernel = _Kernel(capable)
    kernel.held.update(left)
    monkeypatch.setattr(plane, "run", kernel.run)
    assert plane.detect() is expected
    assert kernel.held == set()
