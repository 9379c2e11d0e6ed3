"""What the demo shows: each check uses one service with a real client and returns what was seen.

A check takes the world and either returns a short sentence for the table or raises AssertionError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from tests.demo.world import Box, Guest, Tenant, World
from tests.netns.controlplane.cloud import INTERNET_PAGE
from tests.wait import wait_for

Check = tuple[str, Callable[[World], str]]


def _page(tenant: Tenant) -> str:
    return f"hello from {tenant.name}"


def _holds(guest: Guest) -> bool:
    return guest.address in guest.run(["ip", "-4", "-o", "address"]).stdout


def _shows(box: Box, url: str, page: str) -> bool:
    return box.fetch(url) == page


def leases(world: World) -> str:
    seen = []
    for tenant in world.tenants:
        for guest in tenant.guests:
            wait_for(
                partial(_holds, guest),
                10,
                f"{tenant.name}'s {guest.name} to hold {guest.address}",
            )
            seen.append(f"{tenant.name}/{guest.name} {guest.address}")
    return ", ".join(seen)


def same_range(world: World) -> str:
    alice, bob = world.tenants
    assert alice.network["cidr"] == bob.network["cidr"], (alice.network["cidr"], bob.network["cidr"])
    for tenant in world.tenants:
        tenant.web.serve(_page(tenant))
    # each asks for the same address and must get its own network's page
    target = alice.web.address
    assert target == bob.web.address, "the two tenants' web guests were to have the same address"
    for tenant in world.tenants:
        wait_for(
            partial(_shows, tenant.shell, f"http://{target}/", _page(tenant)),
            10,
            f"{tenant.name}'s own page at {target}",
        )
        # otherwise nothing would follow from connections that fail in other checks
        assert tenant.shell.connects(f"http://{target}/"), f"{target} has a page, and no connection can be made"
    return f"both use {alice.network['cidr']}; {target} is each one's own web server"


def names(world: World) -> str:
    tenant = world.tenants[0]
    web = tenant.web
    domain = tenant.network["networkdomain"]
    forward = tenant.shell.resolve(f"{web.name}.{domain}")
    assert forward == web.address, f"{web.name}.{domain} resolved to {forward!r}"
    reverse = tenant.shell.reverse(web.address)
    assert reverse == f"{web.name}.{domain}", f"{web.address} resolved to {reverse!r}"
    server = tenant.shell.resolve(f"data-server.{domain}")
    assert server == tenant.network["gateway"], f"data-server resolved to {server!r}"
    outside = tenant.shell.resolve("www.internet.example")
    assert outside == world.internet.web, f"www.internet.example resolved to {outside!r}"
    return f"{web.name}.{domain} = {forward}, its PTR, data-server, and the outside through the zone's resolver"


def egress_closed(world: World) -> str:
    shell = world.tenants[0].shell
    assert not shell.connects(f"http://{world.internet.web}/"), "the internet answered without an egress rule"
    return f"{world.internet.web} does not answer a guest"


def egress_open(world: World) -> str:
    tenant = world.tenants[0]
    tenant.api.createEgressFirewallRule(networkid=tenant.network["id"], protocol="tcp", startport=80, endport=80)
    page = tenant.shell.fetch(f"http://{world.internet.web}/")
    assert page == INTERNET_PAGE, f"the internet answered {page!r}"
    source = world.internet.last_client()
    assert source == tenant.source_nat["ipaddress"], f"the internet saw {source}, not {tenant.source_nat['ipaddress']}"
    assert not world.tenants[1].shell.connects(f"http://{world.internet.web}/"), "the other tenant's rule opened too"
    return f"open after the rule; the internet sees {source}; the other tenant stays closed"


def port_forward(world: World) -> str:
    tenant = world.tenants[0]
    address = tenant.source_nat
    url = f"http://{address['ipaddress']}:8080/"
    tenant.api.createPortForwardingRule(
        ipaddressid=address["id"],
        protocol="tcp",
        publicport=8080,
        privateport=80,
        virtualmachineid=tenant.web.id,
        openfirewall="false",
    )
    assert not world.internet.connects(url), "a port forward alone opened the firewall"
    tenant.api.createFirewallRule(
        ipaddressid=address["id"], protocol="tcp", startport=8080, endport=8080, cidrlist="0.0.0.0/0"
    )
    page = world.internet.fetch(url)
    assert page == _page(tenant), f"{url} answered {page!r}"
    return f"{url} closed until its firewall rule, then {page!r}"


def hairpin(world: World) -> str:
    tenant = world.tenants[0]
    url = f"http://{tenant.source_nat['ipaddress']}:8080/"
    page = tenant.shell.fetch(url)
    assert page == _page(tenant), f"{url} from inside answered {page!r}"
    return f"a guest reaches {url} of its own network"


def static_nat(world: World) -> str:
    tenant = world.tenants[1]
    address = tenant.api.associateIpAddress(networkid=tenant.network["id"])["ipaddress"]
    tenant.api.enableStaticNat(ipaddressid=address["id"], virtualmachineid=tenant.web.id)
    tenant.api.createFirewallRule(ipaddressid=address["id"], protocol="tcp", startport=80, endport=80)
    tenant.api.createEgressFirewallRule(networkid=tenant.network["id"], protocol="all")
    page = world.internet.fetch(f"http://{address['ipaddress']}/")
    assert page == _page(tenant), f"{address['ipaddress']} answered {page!r}"
    assert tenant.web.fetch(f"http://{world.internet.web}/") == INTERNET_PAGE
    source = world.internet.last_client()
    assert source == address["ipaddress"], f"the guest left as {source}"
    return f"{address['ipaddress']} reaches {tenant.web.name}, which leaves as {source}"


def user_data(world: World) -> str:
    for tenant in world.tenants:
        for guest in tenant.guests:
            for server in (tenant.network["gateway"], "169.254.169.254"):
                got = guest.fetch(f"http://{server}/latest/user-data")
                assert got == guest.user_data, f"{tenant.name}/{guest.name} got {got!r} from {server}"
            instance = guest.fetch(f"http://{tenant.network['gateway']}/latest/meta-data/instance-id")
            assert instance == guest.id, f"{guest.name} is told instance-id {instance!r}"
    return "each guest got its own, from the router and from 169.254.169.254"


def password(world: World) -> str:
    tenant = world.tenants[0]
    guest = tenant.shell

    def ask(request: str) -> str:
        return guest.fetch(f"http://{tenant.network['gateway']}:8080/", f"DomU_Request: {request}")

    first = ask("send_my_password")
    assert first == guest.password, "the router gave another password than the API"
    assert ask("saved_password") == "saved_password"
    second = ask("send_my_password")
    assert second == "saved_password", f"the password was given again: {second!r}"
    return "given once, as the API had it, then saved_password"


def ssh_key(world: World) -> str:
    tenant = world.tenants[0]
    address = tenant.source_nat
    tenant.api.createPortForwardingRule(
        ipaddressid=address["id"],
        protocol="tcp",
        publicport=2222,
        privateport=22,
        virtualmachineid=tenant.web.id,
        openfirewall="true",
    )
    done = wait_for(
        lambda: world.internet.ssh(address["ipaddress"], 2222, tenant.private_key, ["hostname"]),
        20,
        "a login with the key pair's private key",
    )
    assert done == tenant.web.name, f"logged in to {done!r}"
    return f"logged in to {done} from the internet with the key pair made by the API"


def isolation(world: World) -> str:
    alice, bob = world.tenants
    seen = [vm["id"] for vm in bob.api.listVirtualMachines(listall="true").get("virtualmachine", [])]
    assert alice.web.id not in seen, "one tenant's API listing shows the other's guest"
    assert not bob.shell.connects(f"http://{alice.source_nat['ipaddress']}:80/"), "a closed port answered"
    for probe in (alice.router["linklocalip"], bob.router["linklocalip"]):
        assert not bob.shell.connects(f"https://{probe}:9443/"), f"a guest reached the agent at {probe}"
    return "neither guests nor API show one tenant anything of the other; no guest reaches an agent"


def volume(world: World) -> str:
    tenant = world.tenants[0]
    [offering] = [row for row in tenant.api.listDiskOfferings()["diskoffering"] if row["name"] == "Custom"]
    zone = tenant.network["zoneid"]
    made = tenant.api.createVolume(name="data", zoneid=zone, diskofferingid=offering["id"], size=1)["volume"]
    for guest, script in (
        (tenant.web, "echo kept | dd of=/dev/vdb && echo written"),
        (tenant.shell, "head -c 4 /dev/vdb"),
    ):
        tenant.api.attachVolume(id=made["id"], virtualmachineid=guest.id)
        # a virtual machine may take a moment to see it
        said = wait_for(partial(_run_with, guest, "/dev/vdb", script), 10, f"{guest.name} to have the volume")
        tenant.api.detachVolume(id=made["id"])
    assert said == ["kept"], f"{tenant.shell.name} read {said}"
    tenant.api.deleteVolume(id=made["id"])
    return f"{tenant.shell.name} read from it what {tenant.web.name} had written"


def _run_with(guest: Guest, path: str, script: str) -> list[str]:
    """Lines that a script prints in a guest; none until the guest has the file ``path``."""
    return guest.run(["sh", "-c", f"test -e {path} && {script}"]).stdout.splitlines()


def counters(world: World) -> str:
    tenant = world.tenants[0]
    lines = world.metrics(tenant)
    pattern = re.compile(
        r'gatehouse_\w*bytes\w*\{[^}]*"' + re.escape(tenant.source_nat["ipaddress"]) + r'"[^}]*\} (\d+)'
    )
    counted = sum(int(match.group(1)) for match in pattern.finditer(lines))
    assert counted > 0, f"nothing was counted for {tenant.source_nat['ipaddress']}"
    return f"{counted} bytes for {tenant.source_nat['ipaddress']}"


def repair(world: World) -> str:
    tenant = world.tenants[0]
    url = f"http://{tenant.source_nat['ipaddress']}:8080/"
    world.inside_router(tenant).run(["nft", "flush", "ruleset"])
    wait_for(lambda: world.internet.fetch(url) == _page(tenant), 10, "the port forward to work again")
    wait_for(
        lambda: any(
            event["type"].startswith("ROUTER.") and "netfilter" in event["description"]
            for event in world.admin.listEvents(listall="true", pagesize=100, page=1).get("event", [])
        ),
        15,
        "the repair to be recorded as an event",
    )
    return "someone flushed the router's nftables; it came back by itself and an event says so"


CHECKS: tuple[Check, ...] = (
    ("DHCP leases", leases),
    ("same CIDR side by side", same_range),
    ("DNS", names),
    ("egress closed at first", egress_closed),
    ("egress rule and source NAT", egress_open),
    ("port forward and firewall", port_forward),
    ("hairpin", hairpin),
    ("static NAT", static_nat),
    ("user data and metadata", user_data),
    ("password, fetched once", password),
    ("SSH key", ssh_key),
    ("tenants are isolated", isolation),
    ("volume", volume),
    ("traffic counters", counters),
    ("repair of drift", repair),
)
