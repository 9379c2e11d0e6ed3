"""Through the API of a control plane: a rule to its first packet with 10,000 in place, a network to its first lease."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.store.database import Database
from controlplane.store.models import FirewallRule, PortForwardingRule
from tests.bench.figures import Figure, Target
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.wait import wait_for

ORDER = 2

FIRST_PACKET = Path(__file__).parents[1] / "first_packet.py"
#: ports of the rules in place begin here; those of the rules that are timed lie below
FIRST_PORT, TIMED_PORT = 10000, 1000


@contextmanager
def running_cloud() -> Iterator[Cloud]:
    """A control plane with an internet, gone at the end."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
    made = Cloud(directory)
    try:
        made.start()
        made.connect_internet()
        yield made
    except BaseException:
        print(made.text_log()[-5000:], file=sys.stderr)
        raise
    finally:
        made.remove()
        shutil.rmtree(directory)


def measure(quick: bool) -> Iterator[Figure]:
    rules, rounds, networks = (1_000, 3, 1) if quick else (10_000, 11, 5)
    with running_cloud() as cloud:
        leases = [_first_lease(cloud, number) for number in range(networks)]
        yield Figure("network created to first lease", "s", leases, Target("at most", 3))
        vm = cloud.deploy(cloud.admin, "web", network := cloud.network(cloud.admin, "rules"))
        cloud.address(vm["id"])
        cloud.serve_page(vm["id"], "web")
        [address] = cloud.admin.listPublicIpAddresses(associatednetworkid=network["id"])["publicipaddress"]
        _put_in_place(cloud, network, address, vm, rules)
        # the one that brings the rules to the router, and the one after, are not of the steady state
        times = [_first_packet(cloud, address, vm, number) for number in range(rounds + 2)][2:]
        assert cloud.router(network)["state"] == "Running"
    yield Figure(
        f"one rule added to {rules:,}: API call to first packet through",
        "ms",
        [packet for packet, _ in times],
        Target("at most", 300),
    )
    yield Figure("of this, the API call itself", "ms", [call for _, call in times])


def _first_lease(cloud: Cloud, number: int) -> float:
    """Seconds from createNetwork to the guest's own DHCP client holding its address."""
    sender, placement = cloud.sender, cloud.placement(cloud.admin)
    begin = time.monotonic()
    network = cloud.network(cloud.admin, f"lease{number}")
    vm = sender.deployVirtualMachine(name=f"lease{number}", networkids=network["id"], **placement)["id"]
    cloud.address(vm)
    took = time.monotonic() - begin
    wait_for(lambda: cloud.admin.listVirtualMachines(id=vm)["virtualmachine"][0]["state"] == "Running", 20)
    cloud.admin.destroyVirtualMachine(id=vm, expunge="true")
    cloud.admin.deleteNetwork(id=network["id"])
    return took


def _put_in_place(cloud: Cloud, network: Answer, address: Answer, vm: Answer, rules: int) -> None:
    """Write the rules as the API would have: to make each by a call takes long, and is not what is measured."""
    nic, database = vm["nic"][0]["id"], Database.in_directory(cloud.data)
    with database.transaction() as session:
        for port in range(FIRST_PORT, FIRST_PORT + rules):
            forward = PortForwardingRule(
                network_id=network["id"],
                public_ip_id=address["id"],
                nic_id=nic,
                protocol="tcp",
                public_port=port,
                public_end_port=port,
                private_port=80,
                private_end_port=80,
                state="Active",
            )
            session.add(forward)
            session.flush()
            session.add(
                FirewallRule(
                    network_id=network["id"],
                    public_ip_id=address["id"],
                    traffic_type="Ingress",
                    protocol="tcp",
                    start_port=port,
                    end_port=port,
                    source_cidrs=["0.0.0.0/0"],
                    state="Active",
                    port_forwarding_rule_id=forward.id,
                )
            )


def _first_packet(cloud: Cloud, address: Answer, vm: Answer, number: int) -> tuple[float, float]:
    """Milliseconds from the call to the first connection through the new rule, and to the call's answer."""
    port, sender = TIMED_PORT + number, cloud.sender
    # as text, because this file is not to be seen in there
    argv = cloud.instances.command(INTERNET, ["/usr/bin/python3", "-c", FIRST_PACKET.read_text()])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdin and prober.stdout
        prober.stdin.write(f"{address['ipaddress']} {port}\n")
        prober.stdin.flush()
        time.sleep(0.2)  # it is trying by now, so that its start is not measured
        begin = time.monotonic()
        job = sender.createPortForwardingRule(
            ipaddressid=address["id"],
            virtualmachineid=vm["id"],
            protocol="tcp",
            publicport=port,
            privateport=80,
            openfirewall="true",
        )["jobid"]
        answered = time.monotonic()
        moment = prober.stdout.readline().strip()
        prober.stdin.close()
    assert moment != "late", f"port {port} did not open: {sender.queryAsyncJobResult(jobid=job)}"
    wait_for(lambda: cloud.jobs([job])[job] != 0, 30, "the job's end")
    return (float(moment) - begin) * 1000, (answered - begin) * 1000
