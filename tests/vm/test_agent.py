"""The image boots to an agent that only its control plane can talk to."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import pytest

from controlplane.pki import Authority
from tests.netns.engine.test_agent import CLIENT, context, request, write_identity
from tests.netns.lab import Lab, Router
from tests.vm.documents import Network
from tests.wait import wait_for


def test_the_router_is_healthy_with_its_whole_document(router: Router) -> None:
    health = router.wait_healthy()
    assert health.generation == router.generation
    assert {"interfaces", "dhcp", "nat", "firewall", "metadata", "password"} <= health.services.keys()
    assert router.status().role == "router"


@pytest.mark.parametrize("who", ["nobody", "another CA's control plane", "another name"])
def test_wrong_credentials_get_nothing(router: Router, vm_lab: Lab, tmp_path: Path, who: str) -> None:
    trusted = vm_lab.authority
    path = tmp_path / "own.pem"
    if who == "nobody":
        tls = context(trusted)
    elif who == "another name":
        tls = context(trusted, write_identity(path, trusted, "router-9", CLIENT))
    else:
        tls = context(trusted, write_identity(path, Authority(tmp_path / "ca"), "control-plane", CLIENT))
    assert b" 200 " not in request(router, tls).partition(b"\r\n")[0]
    own = context(trusted, write_identity(path, trusted, "control-plane", CLIENT))
    assert isinstance(own, ssl.SSLContext)
    assert request(router, own).startswith(b"HTTP/1.1 200")


def test_interfaces_have_their_names_whatever_the_order_of_the_devices(router: Router, network: Network) -> None:
    wanted = {nic["name"]: nic["mac"] for nic in network.state["interfaces"]["interfaces"]}
    found = json.loads(router.run(["ip", "-json", "link"]).stdout)
    assert {link["ifname"]: link["address"] for link in found if link["ifname"] != "lo"} == wanted


def test_a_killed_agent_comes_back_and_takes_no_daemon_with_it(router: Router, network: Network) -> None:
    def daemons() -> dict[str, int]:
        def pid(name: str) -> int:
            return int(router.run(["systemctl", "show", "--property=MainPID", "--value", name]).stdout)

        return {name: pid(name) for name in ("gatehouse-dnsmasq.service", "gatehouse-metadata.service")}

    before, started = daemons(), router.status().started
    assert all(pid > 1 for pid in before.values()), before
    router.run(["systemctl", "kill", "--signal=KILL", "gatehouse-agent.service"])
    router.agent.close()
    assert router.wait_agent().started > started
    router.wait_healthy()
    assert daemons() == before
    assert network.reachable()
    # the rules were recognized as those of the document, not loaded again
    assert [repair for repair in router.status().repairs if repair.service == "netfilter"] == []


def test_a_killed_daemon_comes_back_and_that_is_told(router: Router, network: Network) -> None:
    known = len(router.status().repairs)
    router.run(["systemctl", "kill", "--signal=KILL", "gatehouse-dnsmasq.service"])
    wait_for(lambda: len(router.status().repairs) > known, 60, "the repair to be told")
    assert "dnsmasq" in router.status().repairs[-1].reason
    router.wait_healthy()
    assert network.guest.dhcp(timeout=30)["ip"] == "10.1.1.10"


def test_a_unit_of_another_definition_is_replaced(router: Router, network: Network) -> None:
    """As after an upgrade of the agent: systemd is told to read the definition again."""
    name = "gatehouse-dnsmasq.service"

    def shown(what: str) -> str:
        return router.run(["systemctl", "show", f"--property={what}", "--value", name]).stdout.strip()

    wanted, before = shown("TimeoutStopUSec"), shown("MainPID")
    router.run(["sed", "-i", "s/^TimeoutStopSec=.*/TimeoutStopSec=77s/", f"/run/systemd/system/{name}"])
    router.run(["systemctl", "daemon-reload"])
    assert shown("TimeoutStopUSec") == "1min 17s" != wanted
    router.run(["systemctl", "kill", "--signal=KILL", "gatehouse-agent.service"])
    router.agent.close()
    wait_for(lambda: shown("TimeoutStopUSec") == wanted, 60, "the definition of before")
    router.wait_agent()
    router.wait_healthy()
    assert shown("MainPID") not in ("0", before)
    assert network.guest.dhcp(timeout=30)["ip"] == "10.1.1.10"
