"""Downloads from nginx: over TLS, by a proxy, at a limited rate, and while all sorts of things happen to it."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.netns.ssvm.nginx import PORT, Nginx
from tests.netns.ssvm.world import FILES, INNER, ORIGIN, STORE, World
from tests.wait import wait_for

MEGA = 1 << 20
#: name of the origin in its certificate
NAME = "images.example"


@pytest.fixture(scope="module")
def nginx(world: World) -> Nginx:
    certificate, key = self_signed(NAME, ORIGIN)
    world.image("plain.qcow2")
    server = Nginx(world.origin, certificate, key)
    world.origin.write("/run/authority.pem", certificate)
    return server


def fetch(world: World, path: str, **job: Any) -> str:
    return world.add(url=f"http://{ORIGIN}:{PORT}/{path}", **{"format": "raw", "size_limit": 1 << 30, **job})


def kept(world: World, id: str, path: str) -> bool:
    return world.sha256(world.ssvm, f"{STORE}/objects/{id}") == world.sha256(world.origin, path)


def test_drops_in_the_middle_of_a_large_file(world: World, nginx: Nginx) -> None:
    """The server's processes are killed again and again; each time only the rest is asked for."""
    path = world.noise("large", 20 * MEGA)
    id = fetch(world, "slow/large")
    chance, kills, before = random.Random(1), 0, 0
    while world.job(id).state not in ("done", "failed"):
        if (now := world.job(id).received) > before + chance.randint(2 * MEGA, 5 * MEGA):
            before = now
            nginx.signal("KILL")
            kills += 1
    # a kill between two connections loses none
    assert world.done(id).lost >= max(2, kills // 2)
    assert kept(world, id, path)
    asked = nginx.asked("/slow/large")
    # answers that were cut off by a kill are in no log: the last one is that to the rest
    assert [status for status, *_ in asked] == [206]
    assert asked[0][1].startswith("bytes=") and asked[0][2].startswith('"')


def test_a_server_that_falls_silent(world: World, nginx: Nginx) -> None:
    path = world.noise("silent", 12 * MEGA)
    id = fetch(world, "slow/silent")
    wait_for(lambda: world.job(id).received > MEGA, 20, "the first bytes")
    stopped = world.origin.kill("nginx: worker", "STOP")
    wait_for(lambda: world.job(id).lost, 20, "the stall to be noticed")
    assert "nothing came after" in world.job(id).detail
    world.origin.run(["kill", "-CONT", *map(str, stopped)])
    world.done(id)
    assert kept(world, id, path)


def test_a_file_that_changes_in_the_middle(world: World, nginx: Nginx) -> None:
    """Never a mixture: with another ETag the download begins anew, and the object is the new file."""
    path = world.noise("changing", 12 * MEGA)
    id = fetch(world, "slow/changing")
    wait_for(lambda: world.job(id).received > 2 * MEGA, 20, "the first bytes")
    world.noise("changed", 12 * MEGA)
    # nginx's ETag is made of size and second
    world.origin.run(["touch", "--date", "2001-01-01", f"{FILES}/changed"])
    world.origin.run(["mv", f"{FILES}/changed", path])
    nginx.signal("KILL")
    assert world.done(id).lost >= 1
    assert kept(world, id, path)
    # the answer to If-Range with the old ETag was the whole new file
    assert [status for status, *_ in nginx.asked("/slow/changing")] == [200]


def test_a_file_that_is_shorter_than_was_said(world: World, nginx: Nginx) -> None:
    path = world.noise("shrinking", 12 * MEGA)
    id = fetch(world, "slow/shrinking", checksum=world.sha256(world.origin, path))
    wait_for(lambda: world.job(id).received > MEGA, 20, "the first bytes")
    world.origin.run(["truncate", "-s", str(6 * MEGA), path])
    assert "checksum" in world.failed(id, "checksum")
    assert f"objects/{id}" not in world.objects()


def test_servers_without_ranges_are_asked_for_everything_again(world: World, nginx: Nginx) -> None:
    path = world.noise("whole", 8 * MEGA)
    id = fetch(world, "whole/whole")
    world.done(id)
    assert kept(world, id, path)


@pytest.mark.parametrize(
    ("path", "cause", "text"),
    [
        ("inward", "refused-address", "secstorage.allowed.internal.sites"),
        ("metadata", "refused-address", "not public"),
        ("loop", "http", "more than 10 redirects"),
        ("missing", "http", "404"),
    ],
)
def test_where_nginx_sends_nobody(world: World, nginx: Nginx, path: str, cause: str, text: str) -> None:
    assert text in world.failed(fetch(world, path), cause)


def test_a_server_in_trouble_is_given_up_in_the_end(world: World, nginx: Nginx) -> None:
    world.push(retries=1)
    assert "503" in world.failed(fetch(world, "busy"), "connection")
    world.push(retries=5)


def test_https_with_the_certificates_of_the_zone(world: World, nginx: Nginx) -> None:
    url = f"https://{ORIGIN}/plain.qcow2"
    refused = world.add(url=url, format="qcow2", size_limit=MEGA)
    assert "not trusted" in world.failed(refused, "connection")
    world.push(ca=world.origin.read("/run/authority.pem"))
    world.done(world.add(url=url, format="qcow2", size_limit=MEGA))
    # trust is for names, too, and nothing is fetched in the clear after TLS unless a checksum vouches for it
    down = world.add(url=f"https://{ORIGIN}/secure", format="qcow2", size_limit=MEGA)
    assert "from https to http" in world.failed(down, "http")
    wanted = world.sha256(world.origin, f"{FILES}/plain.qcow2")
    world.done(world.add(url=f"https://{ORIGIN}/secure", format="qcow2", size_limit=MEGA, checksum=wanted))
    world.push(ca=None)


def test_a_limited_rate_is_shared_by_all(world: World, nginx: Nginx) -> None:
    world.noise("paced", 6 * MEGA)
    world.push(bandwidth=4 * MEGA)
    begin = time.monotonic()
    both = [fetch(world, "paced"), fetch(world, "paced")]
    wait_for(lambda: all(world.job(id).received > 2 * MEGA for id in both), 20, "rates")
    rates = [world.job(id).rate for id in both]
    # over the first second or so, with the burst
    assert sum(rates) <= 6 * MEGA, rates
    left = world.job(both[0]).seconds_left
    assert left is not None and left <= 6
    for id in both:
        world.done(id)
    # 12 MiB at 4 MiB a second, less the burst
    assert time.monotonic() - begin > 2.5
    world.push(bandwidth=None)


def test_a_proxy(world: World, nginx: Nginx) -> None:
    """tinyproxy, of the management network, on a machine that is in the internet too."""
    world.inner.write("/run/tinyproxy.conf", f"Port 3128\nTimeout 60\nLogLevel Connect\nConnectPort {PORT}\n")
    proxy = world.inner.popen(["/usr/bin/tinyproxy", "-d", "-c", "/run/tinyproxy.conf"])
    try:
        wait_for(lambda: world.inner.connects("127.0.0.1", 3128), 20, "tinyproxy")
        world.push(proxy=f"http://{INNER}:3128", internal_sites=["10.9.0.0/24"], retries=0)
        inside = world.inner.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{FILES}/proxied.qcow2", "1M"])
        assert inside.returncode == 0
        # the proxy refuses other ports than the one that is opened there
        other = world.add(url=f"http://{INNER}:8000/proxied.qcow2", format="qcow2", size_limit=MEGA)
        assert "proxy refuses" in world.failed(other, "connection")
        web = Nginx(world.inner)
        id = world.add(url=f"http://{INNER}:{PORT}/proxied.qcow2", format="qcow2", size_limit=MEGA)
        world.done(id)
        assert [status for status, *_ in web.asked("/proxied.qcow2")] == [200]
        assert f"{INNER}:{PORT}" in world.inner.run(["cat", "/run/nginx.access"]).stdout or proxy.poll() is None
        # where a proxy is used, the addresses of files are checked as ever
        world.failed(world.add(url="http://169.254.169.254/latest", format="raw", size_limit=MEGA), "refused-address")
    finally:
        world.push(proxy=None, internal_sites=[], retries=5)
        proxy.terminate()


@pytest.mark.any_hypervisor
def test_a_full_store(world: World, nginx: Nginx) -> None:
    small = "/var/lib/gatehouse/small"
    stores = world.state["storage"]["stores"]
    world.push(stores=[*stores, {"kind": "directory", "id": "small", "path": small}])
    world.ssvm.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "tmpfs", small])
    world.noise("eight", 8 * MEGA)
    world.noise("two", 2 * MEGA)
    id = fetch(world, "eight", store="small")
    assert world.failed(id, "store-full") == "the store is full; make room in it or add another, then try again"
    assert world.ssvm.run(["find", small, "-type", "f"]).stdout == ""
    # an image that fits as it comes, and not when it is converted
    big = fetch(world, "two", store="small", convert="qcow2")
    assert world.failed(big, "store-full") == "the store is full; make room in it, then try again"
    world.done(fetch(world, "two", store="small"))
    world.push(stores=stores, jobs=[])
    world.ssvm.run(["umount", small], check=False)
