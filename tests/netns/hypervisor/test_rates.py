"""Rates of guests' NICs, enforced on the host's side and measured by iperf3 between two guests."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.run import run
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.wait import wait_for

SLOW = GuestSpec("g-1", "g-1", (Nic("02:00:00:00:00:01", "guest-1", rate_mbit=20, addresses=("10.1.1.1",)),), "bare")
FREE = GuestSpec("g-2", "g-2", (Nic("02:00:00:00:00:02", "guest-1", addresses=("10.1.1.2",)),), "bare")
MAC = SLOW.nics[0].mac


@pytest.fixture
def guests(hypervisor: NamespaceHypervisor) -> NamespaceHypervisor:
    hypervisor.ensure_segment(Segment("guest-1"))
    for number, spec in enumerate((SLOW, FREE), start=1):
        hypervisor.start_guest(spec)
        configure(hypervisor, spec, number)
    return hypervisor


def configure(hypervisor: NamespaceHypervisor, spec: GuestSpec, number: int) -> None:
    for argv in (
        ["ip", "address", "add", f"10.1.1.{number}/24", "dev", "eth0"],
        ["ip", "link", "set", "eth0", "up"],
        ["ip", "link", "set", "lo", "up"],
        ["iperf3", "-s", "-D"],
    ):
        run(hypervisor.command(spec.id, argv))


def mbit(hypervisor: NamespaceHypervisor, *options: str) -> float:
    """What a TCP stream from g-1 to g-2 gets, or with ``-R`` from g-2 to g-1."""
    argv = ["iperf3", "-J", "-c", "10.1.1.2", "-t", "3", "-O", "1", *options]
    done = json.loads(run(hypervisor.command("g-1", argv), timeout=30).stdout)
    received: float = done["end"]["sum_received"]["bits_per_second"]
    return received / 1e6


def assert_rate(hypervisor: NamespaceHypervisor, rate: int) -> None:
    """Within five percent in both directions. What a busy machine did not measure well is measured again, twice."""
    for direction in ((), ("-R",)):
        found: list[float] = []
        while len(found) < 3 and not (found and found[-1] == pytest.approx(rate, rel=0.05)):
            found.append(mbit(hypervisor, *direction))
        assert found[-1] == pytest.approx(rate, rel=0.05), (found, direction)
        assert max(found) < 1.1 * rate, (found, direction)


def in_fabric(hypervisor: NamespaceHypervisor, *argv: str) -> str:
    """Run a command among the hypervisor's bridges."""
    pin = hypervisor.directory / "fabric/net"
    return run(["nsenter", f"--net={pin}", *argv]).stdout


def twins(hypervisor: NamespaceHypervisor) -> int:
    return in_fabric(hypervisor, "ip", "-o", "link", "show", "type", "ifb").count("\n")


def test_a_nic_has_its_rate_in_both_directions(guests: NamespaceHypervisor) -> None:
    assert_rate(guests, 20)
    assert twins(guests) == 1


def test_a_rate_changes_while_traffic_flows_and_nothing_is_lost(guests: NamespaceHypervisor) -> None:
    argv = ["iperf3", "-J", "-u", "-c", "10.1.1.2", "-b", "4M", "-l", "400", "-t", "4", "--bidir"]
    stream = subprocess.Popen(guests.command("g-1", argv), stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: sent(guests) > 1_000_000, 10, "the stream")
        for rate in (10, 90, 40):
            guests.set_rate("g-1", MAC, rate)
        result = json.loads(stream.communicate(timeout=20)[0])["end"]
    except subprocess.TimeoutExpired:
        stream.kill()
        raise
    assert result["sum"]["packets"] > 4_000
    assert (result["sum"]["lost_packets"], result["sum_bidir_reverse"]["lost_packets"]) == (0, 0)
    assert_rate(guests, 40)
    # it is on record, so it stays so over a restart
    guests.stop("g-1", force=True)
    assert twins(guests) == 0
    guests.start_guest(replace(SLOW, nics=(replace(SLOW.nics[0], rate_mbit=40),)))
    configure(guests, SLOW, 1)
    assert_rate(guests, 40)
    guests.set_rate("g-1", MAC, 0)
    assert twins(guests) == 0
    assert mbit(guests) > 400


def sent(hypervisor: NamespaceHypervisor) -> int:
    return int(run(hypervisor.command("g-1", ["cat", "/sys/class/net/eth0/statistics/tx_bytes"])).stdout)


def test_a_rate_that_a_crash_left_unset_is_set_by_the_next_control_plane(
    guests: NamespaceHypervisor, directory: Path
) -> None:
    port = in_fabric(guests, "tc", "qdisc", "show").split("dev gh")[1].split()[0]
    in_fabric(guests, "tc", "qdisc", "del", "dev", f"gh{port}", "root")
    in_fabric(guests, "ip", "link", "del", f"gi{port}")
    guests.close()
    successor = NamespaceHypervisor(directory)
    successor.open()
    try:
        assert twins(successor) == 1
        assert_rate(successor, 20)
        successor.destroy("g-1")
        assert twins(successor) == 0
    finally:
        successor.close()
