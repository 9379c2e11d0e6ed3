"""Metadata and user data with real clients: who sees what, session tokens, a guest that takes more than its share."""

from __future__ import annotations

import base64
import gzip
import json
import sys
from typing import Any

import pytest

from tests.netns.lab import Lab, Machine
from tests.netns.router.guests import GATEWAY, Network

pytestmark = pytest.mark.any_hypervisor

BASE = f"http://{GATEWAY}/latest"
WELL_KNOWN = "http://169.254.169.254/latest"

USER_DATA = gzip.compress(b"#cloud-config\nhostname: vm0\n", mtime=0)
LARGE = bytes(range(256)) * 4096  # 1 MB, the most there is


def items(number: int) -> dict[str, str]:
    return {
        "service-offering": "small",
        "local-hostname": f"vm{number}",
        "instance-id": f"i-{number}",
        "public-keys": "ssh-ed25519 AAAA one\nssh-rsa BBBB two",
        "cloud-domain": "",
    }


@pytest.fixture(scope="module")
def network(lab: Lab) -> Network:
    network = Network(lab, guests=4)
    network.state["metadata"]["guests"] = [
        {"id": "vm-0", "address": "10.1.1.10", "items": items(0), "user_data": base64.b64encode(USER_DATA).decode()},
        {"id": "vm-1", "address": "10.1.1.11", "items": items(1), "user_data": base64.b64encode(LARGE).decode()},
        {"id": "vm-2", "address": "10.1.1.12", "items": items(2)},
    ]
    network.push()
    return network


@pytest.fixture(scope="module")
def guests(network: Network) -> list[Machine]:
    return [network.configured(number) for number in range(4)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/latest/meta-data/", "service-offering\nlocal-hostname\ninstance-id\npublic-keys"),
        ("/latest/meta-data", "service-offering\nlocal-hostname\ninstance-id\npublic-keys"),
        ("/latest/meta-data/instance-id", "i-0"),
        ("/latest/meta-data/instance-id/", "i-0"),
        ("/latest/instance-id", "i-0"),
        ("/latest/public-keys", "ssh-ed25519 AAAA one\nssh-rsa BBBB two"),
        ("/LATEST/Meta-Data/Local-Hostname", "vm0"),
        ("//latest//meta-data//instance-id?x=y", "i-0"),
    ],
)
@pytest.mark.parametrize("server", [GATEWAY, "169.254.169.254"])
def test_pages(guests: list[Machine], server: str, path: str, expected: str) -> None:
    assert guests[0].http(f"http://{server}{path}", "--path-as-is") == (200, expected)


@pytest.mark.parametrize(
    "path", ["/latest/meta-data/cloud-domain", "/latest/nothing", "/", "/latest/user-data/x", "/.."]
)
def test_what_has_no_value_is_not_there(guests: list[Machine], path: str) -> None:
    assert guests[0].http(f"http://{GATEWAY}{path}", "--path-as-is")[0] == 404


def test_user_data_is_served_as_it_was_given(guests: list[Machine]) -> None:
    for guest, data in zip(guests[:2], (USER_DATA, LARGE), strict=True):
        guest.run(["curl", "-sf", "-o", "/run/user-data", f"{BASE}/user-data/"])
        assert base64.b64decode(guest.run(["base64", "/run/user-data"]).stdout) == data
        guest.run(["wget", "-q", "-O", "/run/again", f"{WELL_KNOWN}/user-data"])
        assert guest.ok(["cmp", "/run/user-data", "/run/again"])
    assert guests[2].http(f"{BASE}/user-data")[0] == 404


def test_guest_sees_its_own_data_and_a_stranger_none(guests: list[Machine]) -> None:
    assert guests[1].http(f"{BASE}/instance-id") == (200, "i-1")
    assert guests[3].http(f"{BASE}/meta-data/")[0] == 404
    # saying so does not make it another guest
    assert guests[1].http(f"{BASE}/instance-id", "-H", "X-Forwarded-For: 10.1.1.10", "-H", "Host: vm0") == (200, "i-1")


def test_methods(guests: list[Machine]) -> None:
    assert guests[0].http(f"{BASE}/instance-id", "-X", "POST", "-d", "")[0] == 405
    assert guests[0].http(f"{BASE}/instance-id", "-X", "DELETE")[0] == 405
    head = guests[0].run(["curl", "-sI", f"{BASE}/instance-id"]).stdout
    assert head.startswith("HTTP/1.1 200 OK") and "Content-Length: 3\n" in head.replace("\r", "")


def test_change_is_served_at_once_by_the_same_process(network: Network, guests: list[Machine]) -> None:
    before = network.router.pids("metadata.server")
    network.state["metadata"]["guests"][2]["items"]["instance-id"] = "i-changed"
    network.state["metadata"]["guests"].append({"id": "vm-3", "address": "10.1.1.13", "items": {"instance-id": "new"}})
    network.push()
    assert guests[2].http(f"{BASE}/instance-id") == (200, "i-changed")
    assert guests[3].http(f"{BASE}/instance-id") == (200, "new")
    network.state["metadata"]["guests"].pop()
    network.push()
    assert guests[3].http(f"{BASE}/instance-id")[0] == 404
    assert network.router.pids("metadata.server") == before


KEPT = """
import http.client, sys
kept = http.client.HTTPConnection(sys.argv[1], timeout=5)
def get():
    kept.request("GET", "/latest/instance-id")
    print(kept.getresponse().read().decode(), flush=True)
get()
sock = kept.sock
sys.stdin.readline()
get()
assert kept.sock is sock
"""


def test_connection_outlives_a_reload(network: Network, guests: list[Machine]) -> None:
    client = guests[0].popen([sys.executable, "-c", KEPT, GATEWAY], stdin=-1)
    assert client.stdin is not None and client.stdout is not None
    assert client.stdout.readline() == "i-0\n"
    network.router.kill("metadata.server", "HUP")
    network.state["metadata"]["guests"][0]["items"]["instance-id"] = "i-later"
    network.push()
    out, errors = client.communicate("\n", timeout=10)
    assert out == "i-later\n", errors
    network.state["metadata"]["guests"][0]["items"]["instance-id"] = "i-0"
    network.push()


SLOW = """
import socket, sys
held = []
for number in range(500):
    sock = socket.create_connection((sys.argv[1], 80), timeout=5)
    sock.sendall(b"GET /latest/user-da")
    held.append(sock)
print("held", flush=True)
sys.stdin.read()
"""


def test_slow_guest_does_not_keep_others_waiting(guests: list[Machine]) -> None:
    slow = guests[1].popen([sys.executable, "-c", SLOW, GATEWAY], stdin=-1)
    assert slow.stdout is not None and slow.stdout.readline() == "held\n"
    for _ in range(5):
        assert guests[0].http(f"{BASE}/instance-id", timeout=1) == (200, "i-0")
    slow.communicate()


# ---- session tokens

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"

#: the time to live of each packet with data that comes back for a PUT and then a GET on a connection of its own
HOPS = """
import json, socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
def ask(request):
    with socket.create_connection((sys.argv[1], 80), timeout=5) as sock:
        sock.sendall(request)
        answer = sock.recv(65536)
    while True:
        packet = raw.recv(65536)
        if answer[:16] in packet and packet[20:22] == b"\\0P":
            return packet[8], answer.rpartition(b"\\r\\n")[2].decode()
put, token = ask(b"PUT /latest/api/token HTTP/1.0\\r\\nX-Metadata-Token-TTL-Seconds: 60\\r\\n\\r\\n")
get, value = ask(b"GET /latest/instance-id HTTP/1.0\\r\\nX-Metadata-Token: " + token.encode() + b"\\r\\n\\r\\n")
print(json.dumps([put, get, value]))
"""


@pytest.fixture(scope="module")
def strict(lab: Lab) -> tuple[Network, list[Machine]]:
    """A network that requires session tokens."""
    network = Network(lab)
    network.state["metadata"].update(
        guests=[{"id": f"vm-{number}", "address": f"10.1.1.1{number}", "items": items(number)} for number in range(2)],
        token_required=["eth0"],
    )
    network.push()
    return network, [network.configured(number) for number in range(2)]


def token(guest: Machine, *options: str, seconds: Any = 60) -> tuple[int, str]:
    return guest.http(f"{WELL_KNOWN}/api/token", "-X", "PUT", "-H", f"{TTL}: {seconds}", *options)


def test_token_is_required_and_gives_access_to_its_guest_only(strict: tuple[Network, list[Machine]]) -> None:
    network, guests = strict
    assert guests[0].http(f"{BASE}/instance-id")[0] == 401
    status, value = token(guests[0])
    assert status == 200
    assert guests[0].http(f"{BASE}/instance-id", "-H", f"{TOKEN}: {value}") == (200, "i-0")
    assert guests[1].http(f"{BASE}/instance-id", "-H", f"{TOKEN}: {value}")[0] == 401
    assert guests[0].http(f"{BASE}/instance-id", "-H", f"{TOKEN}: x{value}")[0] == 401
    # a token outlives the server
    network.router.kill("metadata.server")
    network.router.wait_healthy()
    assert guests[0].http(f"{BASE}/instance-id", "-H", f"{TOKEN}: {value}", "--retry", "5", "--retry-connrefused") == (
        200,
        "i-0",
    )


@pytest.mark.parametrize("seconds", ["0", "21601", "x", "", "-1", "1e3"])
def test_token_lifetime_must_be_sensible(strict: tuple[Network, list[Machine]], seconds: str) -> None:
    assert token(strict[1][0], seconds=seconds)[0] == 400


def test_token_is_not_given_to_a_proxy(strict: tuple[Network, list[Machine]]) -> None:
    assert token(strict[1][0], "-H", "X-Forwarded-For: 192.0.2.1")[0] == 403
    assert strict[1][0].http(f"{BASE}/api/token")[0] == 405


def test_token_does_not_travel_beyond_the_guest(strict: tuple[Network, list[Machine]]) -> None:
    put, get, value = json.loads(strict[1][0].run([sys.executable, "-c", HOPS, GATEWAY]).stdout)
    assert (put, value) == (1, "i-0")
    assert get > 1


def test_server_has_one_capability_and_reads_what_is_its_own(network: Network) -> None:
    (pid,) = network.router.pids("metadata.server")
    status = dict(
        line.split(":\t", 1) for line in network.router.read(f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0000000000000400"}  # net_bind_service
    assert "0" not in status["Uid"].split()
    modes = network.router.run(["sh", "-c", "stat -c '%a %U' /etc/gatehouse/metadata/index"]).stdout
    assert modes == "640 www-data\n"
