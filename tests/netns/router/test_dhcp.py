"""DHCP and DNS with real clients: who gets which lease and options, which names resolve, what a change leaves alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import dhcp_storm
from tests.netns.lab import Lab, Machine
from tests.netns.router.guests import DOMAIN, GATEWAY, Network
from tests.wait import wait_for

pytestmark = pytest.mark.any_hypervisor


@pytest.fixture(scope="module")
def network(lab: Lab) -> Network:
    return Network(lab, guests=6)


def dig(machine: Machine, *question: str) -> tuple[str, list[str]]:
    """Status and values of the answer."""
    argv = ["dig", "+time=1", "+tries=2", "+noall", "+comments", "+answer", f"@{GATEWAY}", *question]
    lines = machine.run(argv, check=False).stdout.splitlines()
    status = next((line.split("status: ")[1].split(",")[0] for line in lines if "status: " in line), "no answer")
    return status, sorted(line.split()[-1] for line in lines if line and not line.startswith(";"))


def options_by_dhclient(machine: Machine) -> str:
    """A lease by ISC dhclient, as its lease file tells of it."""
    config = "request subnet-mask, routers, domain-name, domain-name-servers, host-name, interface-mtu;"
    machine.write("/run/dhclient.conf", config)
    files = ["-cf", "/run/dhclient.conf", "-lf", "/run/dhclient.leases", "-pf", "/run/dhclient.pid", "-sf", "/bin/true"]
    machine.run(["ip", "link", "set", "eth0", "up"])
    machine.run(["dhclient", "-4", "-1", *files, "eth0"], timeout=20)
    machine.run(["sh", "-c", "kill $(cat /run/dhclient.pid)"])
    return machine.read("/run/dhclient.leases")


def test_lease_carries_every_option_that_is_set(lab: Lab) -> None:
    network = Network(lab)
    network.state["dhcp"]["networks"][0].update(
        mtu=1400,
        search=[DOMAIN, "b.example"],
        routes=[{"destination": "192.168.0.0/16", "gateway": "10.1.1.254"}],
        lease=3600,
    )
    network.state["dhcp"].update(resolvers=["203.0.113.53"], expose_resolvers=True)
    network.push()
    lease = network.guest(0).dhcp()
    expected = {
        "ip": "10.1.1.10",
        "mask": "24",
        "router": GATEWAY,
        "dns": f"{GATEWAY} 203.0.113.53",
        "domain": DOMAIN,
        "hostname": "vm0",
        "mtu": "1400",
        "search": f"{DOMAIN} b.example",
        # RFC 3442: a client that takes option 121 ignores option 3, so the default route is here too
        "staticroutes": f"192.168.0.0/16 10.1.1.254 0.0.0.0/0 {GATEWAY}",
        "lease": "3600",
        "serverid": GATEWAY,
    }
    assert expected.items() <= lease.items()


def test_nic_that_is_not_the_default_gets_no_router_resolver_and_domain(lab: Lab) -> None:
    network = Network(lab)
    network.state["dhcp"]["networks"][0]["routes"] = [{"destination": "192.168.0.0/16", "gateway": "10.1.1.254"}]
    network.state["dhcp"]["hosts"][0]["default"] = False
    network.push()
    lease = network.guest(0).dhcp()
    assert lease["ip"] == "10.1.1.10"
    assert not {"router", "dns", "domain"} & lease.keys()
    assert lease["staticroutes"] == "192.168.0.0/16 10.1.1.254"


@pytest.mark.parametrize("name", ["ignore", "infinite", "120"])
def test_a_guest_may_be_named_like_a_word_of_dnsmasq_s(lab: Lab, name: str) -> None:
    network = Network(lab)
    network.state["dhcp"]["hosts"][0]["name"] = name
    network.push()
    lease = network.guest(0).dhcp()
    assert (lease["ip"], lease["hostname"], lease["domain"]) == ("10.1.1.10", name, DOMAIN)
    assert lease["lease"] == "86400"


def test_dhclient(network: Network) -> None:
    lease = options_by_dhclient(network.guest(1))
    for line in ("fixed-address 10.1.1.11;", f"option routers {GATEWAY};", f'option domain-name "{DOMAIN}";'):
        assert line in lease


#: as systemd's unit starts it; started as root it asks for capabilities that a guest has not
_CAPABILITIES = "+net_admin,+net_bind_service,+net_broadcast,+net_raw"
AS_NETWORK_USER = (
    *("setpriv", "--reuid=systemd-network", "--regid=systemd-network", "--clear-groups"),
    *(f"--inh-caps={_CAPABILITIES}", f"--ambient-caps={_CAPABILITIES}"),
)


def test_systemd_networkd(network: Network) -> None:
    guest = network.guest(1)
    guest.write("/etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n")
    state = "/run/systemd/netif"
    user = "systemd-network"
    guest.run(["sh", "-c", f"mkdir -p {state}/links {state}/leases {state}/lldp && chown -R {user}:{user} {state}"])
    # it needs no systemd as first process; without its message bus it only complains
    guest.popen(
        [*AS_NETWORK_USER, "/usr/lib/systemd/systemd-networkd"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lease = wait_for(lambda: guest.run(["sh", "-c", f"cat {state}/leases/*"], check=False).stdout, 10, "a lease")
    assert {"ADDRESS=10.1.1.11", f"ROUTER={GATEWAY}", f"DNS={GATEWAY}", f"DOMAINNAME={DOMAIN}"} <= {*lease.splitlines()}
    wait_for(lambda: guest.ping(GATEWAY), 5, "the router")


def test_stranger_gets_no_answer_at_all(lab: Lab, network: Network) -> None:
    stranger = lab.guest(network.segment)
    with pytest.raises(AssertionError, match="no lease"):
        stranger.dhcp(timeout=2)


@pytest.fixture(scope="module")
def asking(network: Network) -> Machine:
    """A guest that asks for names."""
    guest = network.guest(0)
    guest.dhcp()
    return guest


@pytest.mark.parametrize(
    ("question", "status", "values"),
    [
        (("vm1",), "NOERROR", ["10.1.1.11"]),
        ((f"vm1.{DOMAIN}",), "NOERROR", ["10.1.1.11"]),
        (("-x", "10.1.1.11"), "NOERROR", [f"vm1.{DOMAIN}."]),
        (("data-server",), "NOERROR", [GATEWAY]),
        ((f"data-server.{DOMAIN}",), "NOERROR", [GATEWAY]),
        (("data-server", "AAAA"), "NOERROR", []),
        ((f"data-server.{DOMAIN}", "AAAA"), "NOERROR", []),
        ((f"vm1.{DOMAIN}", "AAAA"), "NOERROR", []),
        ((f"nobody.{DOMAIN}",), "NXDOMAIN", []),
        (("-x", "10.1.1.200"), "NXDOMAIN", []),
    ],
)
def test_names(asking: Machine, question: tuple[str, ...], status: str, values: list[str]) -> None:
    assert dig(asking, *question) == (status, values)


def test_names_over_tcp(asking: Machine) -> None:
    assert dig(asking, "+tcp", "vm1") == ("NOERROR", ["10.1.1.11"])


def test_adding_a_guest_restarts_nothing_and_disturbs_no_lease(lab: Lab, network: Network, asking: Machine) -> None:
    before, lease = network.router.pids("dnsmasq"), network.router.read("/run/gatehouse/dhcp/leases")
    network.macs.append(lab.mac())
    number = len(network.macs) - 1
    network.state["dhcp"]["hosts"].append(network.host(number))
    network.push()
    assert dig(asking, f"vm{number}") == ("NOERROR", [network.address(number)])
    guest = network.guest(number)
    assert guest.dhcp(timeout=2)["ip"] == network.address(number)
    assert network.router.pids("dnsmasq") == before
    assert set(lease.splitlines()) <= set(network.router.read("/run/gatehouse/dhcp/leases").splitlines())


def test_address_of_a_removed_guest_is_free_at_once(lab: Lab, network: Network, asking: Machine) -> None:
    before = network.router.pids("dnsmasq")
    old = network.guest(2)
    assert old.dhcp()["ip"] == network.address(2)
    network.macs[2] = lab.mac()
    network.state["dhcp"]["hosts"][2] = network.host(2, id="nic-new", name="newcomer")
    network.push()
    assert network.guest(2).dhcp(timeout=2)["ip"] == network.address(2)
    assert dig(asking, "newcomer") == ("NOERROR", [network.address(2)])
    assert dig(asking, f"vm2.{DOMAIN}") == ("NXDOMAIN", [])
    with pytest.raises(AssertionError, match="no lease"):
        old.dhcp(timeout=1)
    assert network.router.pids("dnsmasq") == before


def test_guest_whose_address_changes_gets_the_new_one(network: Network) -> None:
    guest = network.guest(3)
    assert guest.dhcp()["ip"] == network.address(3)
    network.state["dhcp"]["hosts"][3]["address"] = "10.1.1.99"
    network.push()
    assert guest.dhcp(timeout=2)["ip"] == "10.1.1.99"


def test_leases_outlive_dnsmasq_and_the_agent(network: Network) -> None:
    guest = network.guest(4)
    guest.dhcp()
    for victim in ("dnsmasq", "appliance.agent"):
        old = network.router.kill(victim)
        wait_for(lambda v=victim, o=old: network.router.pids(v) not in ([], o), 5, f"{victim} to be back")  # type: ignore[misc]
        network.router.wait_agent()
        network.router.wait_healthy()
        assert network.macs[4] in network.router.read("/run/gatehouse/dhcp/leases")
        assert guest.dhcp(timeout=3)["ip"] == network.address(4)


def test_guest_keeps_its_address_when_the_router_forgot_all_leases(network: Network) -> None:
    guest = network.guest(5)
    guest.dhcp()
    network.router.stop()
    network.router.start()
    network.router.wait_healthy()
    # asks for its old address without looking for a server first: INIT-REBOOT of RFC 2131
    argv = ["busybox", "udhcpc", "-n", "-q", "-i", "eth0", "-r", network.address(5), "-s", "/run/udhcpc", "-t", "3"]
    assert "lease of 10.1.1.15 obtained" in guest.run(argv).stderr


#: tells whether the UDP checksum of the first DHCP reply that arrives is complete (RFC 768), as old clients do
READ_REPLY = """
import socket, struct
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as packets:
    packets.bind(("eth0", 0))
    packets.settimeout(20)
    print("ready", flush=True)
    udp = b""
    while udp[2:4] != b"\\0\\x44":
        packet = packets.recv(65535)[14:]
        end, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
        udp = packet[end:length] if packet[9] == 17 else b""
summed = packet[12:20] + b"\\0\\x11" + udp[4:6] + udp + bytes(len(udp) % 2)
total = sum(struct.unpack(f">{len(summed) // 2}H", summed))
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
print("complete" if total == 0xFFFF and udp[6:8] != bytes(2) else f"checksum {udp[6:8].hex()}, sum {total:#x}")
"""


@pytest.mark.parametrize("flushed", [False, True])
def test_dhcp_replies_are_sent_with_complete_checksums(network: Network, flushed: bool) -> None:
    if flushed:
        network.router.run(["nft", "flush", "ruleset"])
        wait_for(lambda: "jump dhcp" in network.router.run(["nft", "list", "ruleset"]).stdout, 10, "the rules again")
        network.router.wait_healthy()
    guest = network.guest(2)
    guest.run(["ip", "link", "set", "eth0", "up"])
    reader = guest.popen([sys.executable, "-c", READ_REPLY])
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n", reader.communicate()
    guest.dhcp()
    assert reader.communicate(timeout=20)[0] == "complete\n"


def test_dnsmasq_runs_with_three_capabilities_and_as_its_own_user(network: Network) -> None:
    (pid,) = network.router.pids("dnsmasq")
    status = dict(
        line.split(":\t", 1) for line in network.router.read(f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    # net_bind_service 10, net_admin 12, net_raw 13
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {"0000000000003400"}
    assert "0" not in status["Uid"].split()
    assert status["NoNewPrivs"] == "1"


@pytest.fixture
def resolver(lab: Lab) -> tuple[Machine, Machine]:
    """A guest whose router asks a resolver on the public side, and that resolver."""
    network, public = Network(lab), lab.segment("public")
    network.state["interfaces"]["interfaces"].append(
        {
            "name": "eth2",
            "mac": lab.mac(),
            "role": "public",
            "addresses": ["203.0.113.2/24"],
            "gateway": "203.0.113.1",
        }
    )
    network.state["dhcp"]["resolvers"] = ["203.0.113.53"]
    router = lab.router(network.state, segments={"eth0": network.segment, "eth2": public})
    network.router.stop()
    network.router = router
    outside = lab.host("resolver", public, ["203.0.113.53/24"])
    names = ["www.internet.example/198.51.100.7", "metadata.evil.example/169.254.169.254", "www.corp.example/10.9.9.9"]
    outside.popen(
        ["dnsmasq", "-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file",
         "--local-ttl=300", *(f"--address=/{name}" for name in names)]
    )  # fmt: skip
    return network.configured(0), outside


def test_other_names_come_from_the_zones_resolver(resolver: tuple[Machine, Machine]) -> None:
    guest, outside = resolver
    wait_for(lambda: dig(guest, "www.internet.example")[0] == "NOERROR", 5, "the zone's resolver")
    assert dig(guest, "www.internet.example") == ("NOERROR", ["198.51.100.7"])
    assert dig(guest, "www.corp.example") == ("NOERROR", ["10.9.9.9"])
    # DNS rebinding: a name from outside must not lead to the metadata service
    assert dig(guest, "metadata.evil.example") == ("NXDOMAIN", [])
    # DNS is for guests
    argv = ["dig", "+time=1", "+tries=1", "+short", "@203.0.113.2"]
    assert outside.run([*argv, f"vm1.{DOMAIN}"], check=False).returncode == 9
    assert outside.run([*argv, "+tcp", f"vm1.{DOMAIN}"], check=False).returncode == 9


def test_a_hundred_and_fifty_guests_ask_at_once(lab: Lab) -> None:
    network = Network(lab)
    base = 0x02_02_00_00_00_00
    network.state["dhcp"]["hosts"] = [
        {
            "id": f"nic-{number}",
            "interface": "eth0",
            "mac": (base + number).to_bytes(6, "big").hex(":"),
            "address": f"10.1.1.{50 + number}",
            "name": f"vm{number}",
        }
        for number in range(150)
    ]
    network.push()
    guest = lab.guest(network.segment)
    guest.run(["ip", "link", "set", "eth0", "up"])
    program = Path(dhcp_storm.__file__)
    result = json.loads(guest.run([sys.executable, str(program), "eth0", "150", f"{base:012x}"], timeout=60).stdout)
    expected = {host["mac"]: host["address"] for host in network.state["dhcp"]["hosts"]}
    assert result["addresses"] == expected
    assert (result["served"], result["twice"], result["refused"]) == (150, 0, 0)
    assert "gatehouse_dhcp_leases 150\n" in network.router.metrics()
