"""Which way a secondary-storage VM's packets go: internal sites by the management side only, at its rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.ssvm.world import FILES, INNER, ORIGIN, World

MEGA = 1 << 20
#: a site behind a gateway of the management network
DEEP, SITE = "10.20.0.5", "10.20.0.0/24"
#: what the worker's user sees of it: whether a connection is made at all, whatever the worker itself would allow
_CONNECT = "import socket,sys; socket.create_connection((sys.argv[1], 8000), 2)"


@pytest.fixture(scope="module")
def site(world: World) -> Iterator[str]:
    """The site is a machine of the management network. One of the internet has its address too, and is the gateway."""
    for machine in (world.inner, world.origin):
        machine.run(["ip", "address", "add", f"{DEEP}/32", "dev", "lo"])
    world.origin.run(["ip", "address", "add", "203.0.113.1/24", "dev", "eth0"])
    world.inner.run(["sh", "-c", f"head -c {8 * MEGA} /dev/urandom >{FILES}/file"])
    world.origin.run(["sh", "-c", f"echo not this one >{FILES}/file"])
    yield DEEP
    restore(world)


def restore(world: World) -> None:
    world.state["interfaces"].pop("routes", None)
    world.state.pop("shaping", None)
    world.push(internal_sites=[], retries=5, jobs=[])


def fetch(world: World, host: str, **job: Any) -> str:
    return world.add(url=f"http://{host}:8000/file", format="raw", size_limit=1 << 30, **job)


def reaches(world: World, address: str) -> bool:
    argv = ["setpriv", "--reuid=backup", "--clear-groups", "/usr/bin/python3", "-c", _CONNECT, address]
    return world.ssvm.ok(argv)


@pytest.mark.any_hypervisor
def test_internal_sites_are_reached_by_the_management_side_alone(world: World, site: str) -> None:
    world.push(internal_sites=[SITE], retries=0)
    # without a route it would be the public side, where somebody answers: nothing goes there, whoever asks for it
    assert world.ssvm.run(["ip", "route", "get", site]).stdout.split()[2:5:2] == ["203.0.113.1", "eth1"]
    assert not reaches(world, site)
    world.failed(fetch(world, site), "connection")
    world.state["interfaces"]["routes"] = [{"destination": SITE, "gateway": INNER}]
    wanted = world.sha256(world.inner, f"{FILES}/file")
    world.done(fetch(world, site, checksum=wanted))
    assert reaches(world, site)
    # and only as long as it is a site
    world.push(internal_sites=[])
    assert not reaches(world, site)
    world.failed(fetch(world, site), "refused-address")
    assert reaches(world, ORIGIN)


@pytest.mark.any_hypervisor
def test_the_rate_of_the_storage_network(world: World, site: str) -> None:
    world.push(internal_sites=["10.9.0.0/24"])
    begin = time.monotonic()
    world.done(fetch(world, INNER))
    fast = time.monotonic() - begin
    world.state["shaping"] = {"interfaces": [{"interface": "eth2", "mbit": 20}]}
    world.push()
    begin = time.monotonic()
    world.done(fetch(world, INNER))
    # 64 Mbit at 20 Mbit/s; what comes by the public side has no limit
    assert time.monotonic() - begin > max(2.8, fast)
    begin = time.monotonic()
    world.origin.run(["sh", "-c", f"head -c {8 * MEGA} /dev/urandom >{FILES}/file"])
    world.done(fetch(world, ORIGIN))
    assert time.monotonic() - begin < 2.8 * world.lab.patience
    del world.state["shaping"]
    world.push()
    begin = time.monotonic()
    world.done(fetch(world, INNER))
    assert time.monotonic() - begin < 2.8 * world.lab.patience
