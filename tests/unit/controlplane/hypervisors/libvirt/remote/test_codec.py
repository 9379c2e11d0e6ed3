"""What calls to another machine carry comes out as it went in, and as nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from controlplane.hypervisors.base import Nic, Segment, Wire
from controlplane.hypervisors.libvirt.hostside import HostSide, Place
from controlplane.hypervisors.libvirt.remote.codec import decode, encode
from controlplane.hypervisors.policy import Group, Policy, Rule
from controlplane.hypervisors.portfilter.model import Port

RULE = Rule(6, (22, 80), cidr="10.0.0.0/8")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Segment, Segment("guest-1", 1450, Wire("wan", "vxlan", 77))),
        (Segment, Segment("control")),
        (Sequence[tuple[str, Nic]], [("g-1", Nic("02:00:00:00:00:01", "guest-1", 10, ("10.1.1.2",)))]),
        (Mapping[str, Port], {"gh01": Port("02:00:00:00:00:01", "br01", ("10.1.1.2",), secured=True)}),
        (Mapping[str, bytes], {"key.pem": bytes(range(256))}),
        (Place, Place(Path("/run/a"), Path("/run/a/b"), "169.254.0.2")),
        (
            Policy,
            Policy(
                {"g": Group(frozenset({RULE}))}, {"g": frozenset({"10.1.1.2"})}, {("g-1", "02:00:00:00:00:01"): ("g",)}
            ),
        ),
        (dict[str, Path], {"a": Path("/b")}),
        (tuple[int, int], (64055, 109)),
    ],
)
def test_there_and_back(kind: Any, value: object) -> None:
    assert decode(kind, json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (str, 5),
        (int, True),
        (list[str], "abc"),
        (tuple[int, int], [1]),
        (bytes, "%"),
        (Segment, {"name": "guest-1", "mtu": 1500}),
        (Wire, {"interface": "wan", "isolation": "carrier pigeon", "tag": 1}),
        (object, {}),
    ],
)
def test_what_is_not_of_the_type_is_refused(kind: Any, raw: object) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        decode(kind, raw)


def test_every_call_of_a_host_says_what_it_takes_and_gives() -> None:
    calls = [name for name, item in vars(HostSide).items() if callable(item) and not name.startswith("_")]
    assert len(calls) > 10
    for name in calls:
        assert "return" in get_type_hints(getattr(HostSide, name)), name
