"""The password server with real clients: fetched once, by its guest only, whatever is restarted in between."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.netns.lab import Lab, Machine
from tests.netns.router.guests import GATEWAY, Network
from tests.wait import wait_for

pytestmark = pytest.mark.any_hypervisor

SERVER = f"http://{GATEWAY}:8080/"
SECRET = "pass wörd/§&<%"


@pytest.fixture
def network(lab: Lab) -> Network:
    return Network(lab)


def ask(guest: Machine, wish: str, name: str = "DomU_Request") -> tuple[int, str]:
    return guest.http(SERVER, "-H", f"{name}: {wish}")


def reset(network: Network, *pending: tuple[str, int, str]) -> None:
    """Push passwords as (id, guest, password), and nothing else pending."""
    network.state["passwords"]["pending"] = [
        {"id": name, "address": network.address(number), "password": password} for name, number, password in pending
    ]
    network.push()


def report(network: Network) -> Any:
    return network.router.status().reports["password"]


def files(network: Network) -> list[str]:
    """Mode, owner and path of everything in the vault."""
    argv = ["find", "/var/lib/gatehouse/passwords", "-printf", "%m %u %P\\n"]
    return sorted(network.router.run(argv).stdout.splitlines())


def test_password_is_fetched_confirmed_and_never_served_again(network: Network) -> None:
    guests = [network.configured(0), network.configured(1)]
    reset(network, ("reset-1", 0, SECRET))
    assert report(network) == {"fetched": []}
    assert files(network) == [
        "600 root pending/10.1.1.10_reset-1",
        "700 root ",
        "700 root fetched",
        "700 root pending",
    ]
    assert ask(guests[1], "send_my_password") == (200, "saved_password")
    # until it is confirmed, it may be asked for again: the guest may have failed to set it
    for _ in range(2):
        assert ask(guests[0], "send_my_password") == (200, SECRET)
    # as the guests' scripts do
    argv = ["wget", "-q", "-t", "3", "-T", "20", "-O", "-", "--header", "DomU_Request: send_my_password", SERVER]
    assert guests[0].run(argv).stdout == SECRET
    assert ask(guests[1], "saved_password") == (200, "saved_password")
    assert ask(guests[0], "saved_password") == (200, "saved_password")
    assert ask(guests[0], "send_my_password") == (200, "saved_password")
    assert report(network) == {"fetched": ["reset-1"]}
    assert [line for line in files(network) if "pending/" in line] == []

    # the same document, again and after a restart of everything, does not bring it back
    network.push()
    assert ask(guests[0], "send_my_password") == (200, "saved_password")
    network.router.stop()
    network.router.start()
    network.router.wait_healthy()
    assert ask(guests[0], "send_my_password") == (200, "saved_password")
    # the next reset does
    reset(network, ("reset-2", 0, "new"))
    assert ask(guests[0], "send_my_password") == (200, "new")
    assert report(network) == {"fetched": []}


def test_password_waits_through_restarts(network: Network) -> None:
    guest = network.configured(0)
    reset(network, ("reset-1", 0, SECRET))
    network.router.kill("password.server")
    wait_for(lambda: ask(guest, "send_my_password") == (200, SECRET), 5, "the password server to be back")
    network.router.stop(force=True)
    network.router.start()
    network.router.wait_healthy()
    assert ask(guest, "send_my_password") == (200, SECRET)


def test_confirmation_of_the_old_password_keeps_the_new_one(network: Network) -> None:
    guest = network.configured(0)
    reset(network, ("reset-1", 0, "old"))
    assert ask(guest, "send_my_password") == (200, "old")
    reset(network, ("reset-2", 0, "new"))
    assert ask(guest, "saved_password") == (200, "saved_password")
    assert ask(guest, "send_my_password") == (200, "new")


def test_withdrawn_password_is_gone(network: Network) -> None:
    guest = network.configured(0)
    reset(network, ("reset-1", 0, SECRET))
    reset(network)
    assert ask(guest, "send_my_password") == (200, "saved_password")
    assert [line for line in files(network) if "pending/" in line] == []


def test_other_requests_are_bad(network: Network) -> None:
    guest = network.configured(0)
    reset(network, ("reset-1", 0, SECRET))
    assert ask(guest, "nonsense") == (400, "bad_request")
    assert guest.http(SERVER) == (400, "bad_request")
    assert guest.http(SERVER, "-X", "PUT")[1] == "bad_request"
    # proxies and some libraries know no underscore in names
    assert ask(guest, "send_my_password", "DomU-Request") == (200, SECRET)


def test_no_log_and_no_other_file_tells_the_password(network: Network) -> None:
    guest = network.configured(0)
    reset(network, ("reset-1", 0, "Zx9-tell-nobody"))
    assert ask(guest, "send_my_password") == (200, "Zx9-tell-nobody")
    assert ask(guest, "saved_password") == (200, "saved_password")
    assert "Zx9" not in network.router.text_logs()
    assert "Zx9" not in network.router.metrics() + network.router.status().model_dump_json()
    reset(network)
    # a document that holds passwords may be kept, but for root only
    argv = ["grep", "-rl", "Zx9-tell-nobody", "/etc/gatehouse", "/run/gatehouse", "/var/lib/gatehouse"]
    assert network.router.run(argv, check=False).stdout == ""


SLOW = """
import socket, sys
held = []
for number in range(200):
    sock = socket.create_connection((sys.argv[1], 8080), timeout=5)
    sock.sendall(b"GET / HTTP/1.1 slow")
    held.append(sock)
print("held", flush=True)
sys.stdin.read()
"""


def test_slow_guest_does_not_keep_others_waiting(network: Network) -> None:
    guests = [network.configured(0), network.configured(1)]
    slow = guests[1].popen([sys.executable, "-c", SLOW, GATEWAY], stdin=-1)
    assert slow.stdout is not None and slow.stdout.readline() == "held\n"
    for _ in range(3):
        assert guests[0].http(SERVER, timeout=1) == (400, "bad_request")
    slow.communicate()


def test_guest_that_asks_too_often_is_slowed_down_alone(network: Network) -> None:
    guests = [network.configured(0), network.configured(1)]
    answers = [ask(guests[0], "send_my_password")[0] for _ in range(40)]
    assert answers[0] == 200 and 429 in answers
    assert ask(guests[1], "send_my_password") == (200, "saved_password")


def test_server_has_no_capability(network: Network) -> None:
    (pid,) = network.router.pids("password.server")
    status = network.router.read(f"/proc/{pid}/status")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status
