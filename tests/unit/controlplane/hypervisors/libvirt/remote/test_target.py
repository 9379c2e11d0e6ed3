"""Which URIs go to another machine, and which cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.libvirt.remote.target import Target, parse_target


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("qemu:///system", None),
        ("qemu:///system?socket=/tmp/sock", None),
        ("qemu+ssh://root@host2/system", Target("host2")),
        ("qemu+ssh://host2/system", Target("host2")),
        ("qemu+ssh://admin@192.0.2.7:2222/system", Target("192.0.2.7", 2222, "admin")),
        ("qemu+ssh://root@[2001:db8::7]/system", Target("2001:db8::7")),
        ("qemu+ssh://host2/system?socket=/run/x", Target("host2", socket=Path("/run/x"))),
    ],
)
def test_where_a_uri_goes(uri: str, expected: Target | None) -> None:
    assert parse_target(uri) == expected


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("qemu+tls://host2/system", "does not go over SSH"),
        ("qemu+tcp://host2/system", "does not go over SSH"),
        ("qemu+ssh://host2/session", "there is /system"),
        ("qemu+ssh://root:secret@host2/system", "the key is the control plane's own"),
        ("qemu+ssh://host2/system?no_verify=1", "the option socket"),
        ("qemu+ssh://host2/system?command=/bin/sh", "the option socket"),
        ("qemu+ssh://host2:ssh/system", "no libvirt URI"),
        ("qemu+ssh://-oProxyCommand=x/system", "no name of a host"),
        ("qemu+ssh://-l@host2/system", "no name of a host"),
    ],
)
def test_what_cannot_be_used_is_told(uri: str, complaint: str) -> None:
    with pytest.raises(HypervisorError, match=complaint) as caught:
        parse_target(uri)
    assert "qemu+ssh://root@host/system" in str(caught.value)
