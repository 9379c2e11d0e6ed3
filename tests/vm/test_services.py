"""What a guest and the internet see of a router that is a virtual machine."""

from __future__ import annotations

from tests.vm.documents import FORWARDED, GATEWAY, GUEST, INTERNET, PUBLIC, WEB, Network


def test_dhcp_gives_the_guest_its_address(network: Network) -> None:
    lease = network.guest.dhcp(timeout=30)
    assert (lease["ip"], lease["router"], lease["domain"]) == (GUEST, GATEWAY, "a.example")


def test_dns_answers_for_the_network(network: Network) -> None:
    answer = network.guest.run(["dig", "+short", "+time=5", f"@{GATEWAY}", "vm1.a.example"]).stdout.split()
    assert answer == [GUEST]


def test_guests_go_out_by_source_nat(network: Network) -> None:
    assert network.guest.http(f"http://{INTERNET}:{WEB}/", timeout=15) == (200, "internet")
    assert network.internet.clients()[-1] == PUBLIC


def test_a_forwarded_port_reaches_the_guest_and_no_other_does(network: Network) -> None:
    assert network.internet.http(f"http://{PUBLIC}:{FORWARDED}/", timeout=15) == (200, "guest")
    assert not network.internet.connects(PUBLIC, FORWARDED + 1, timeout=5)
    assert not network.internet.connects(PUBLIC, 9443, timeout=5)
    assert not network.internet.connects(PUBLIC, 3922, timeout=5)


def test_metadata_user_data_and_password(network: Network) -> None:
    assert network.guest.http("http://169.254.169.254/latest/user-data", timeout=15) == (200, "hello")
    ask = ("-H", "DomU_Request: send_my_password")
    assert network.guest.http(f"http://{GATEWAY}:8080/", *ask, timeout=30) == (200, "correct horse")
