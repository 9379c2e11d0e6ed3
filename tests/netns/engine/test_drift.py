"""What goes wrong on a running router is put right within seconds, and told."""

from __future__ import annotations

import time
from typing import Any

import pytest

from appliance.schema.status import Repair
from controlplane.convergence.push import AgentUnreachableError
from tests.netns.engine.documents import forward, host, small_network
from tests.netns.lab import Lab, Router
from tests.wait import wait_for


@pytest.fixture(scope="module")
def state(lab: Lab) -> dict[str, Any]:
    state = small_network(lab)
    state["dhcp"]["hosts"] = [host(20, "vm1")]
    state["nat"]["forwards"] = [forward(80)]
    return state


@pytest.fixture(scope="module")
def router(lab: Lab, state: dict[str, Any]) -> Router:
    return lab.router(state)


def newest(router: Router) -> Repair | None:
    repairs = router.status().repairs
    return repairs[-1] if repairs else None


def repaired(router: Router, before: Repair | None, service: str) -> Repair:
    def found() -> Repair | None:
        after = [repair for repair in router.status().repairs if before is None or repair.number > before.number]
        return next((repair for repair in after if repair.service == service), None)

    repair = wait_for(found, 10, f"a repair of {service}")
    assert repair is not None
    assert repair.error == ""
    return repair


def resolves(router: Router) -> bool:
    answer = router.run(["dig", "+short", "+time=1", "+tries=1", "vm1.one.example", "@10.1.1.1"], check=False)
    return answer.stdout.strip() == "10.1.1.20"


def test_a_flushed_ruleset_is_back_within_seconds(router: Router) -> None:
    before, ruleset = newest(router), router.run(["nft", "list", "ruleset"]).stdout
    router.run(["nft", "flush", "ruleset"])
    begin = time.monotonic()
    wait_for(lambda: router.run(["nft", "list", "ruleset"]).stdout == ruleset, 10, "the ruleset")
    assert time.monotonic() - begin < 5
    assert "someone else" in repaired(router, before, "netfilter").reason


def test_one_removed_rule_is_back(router: Router) -> None:
    listing = ["nft", "list", "table", "inet", "gatehouse"]
    before, table = newest(router), router.run(listing).stdout
    router.run(["nft", "flush", "chain", "inet", "gatehouse", "input"])
    repaired(router, before, "netfilter")
    assert router.run(listing).stdout == table


def test_a_table_of_someone_else_is_left_alone(router: Router) -> None:
    before = newest(router)
    router.run(["nft", "add", "table", "inet", "other"])
    wait_for(router.health, 5)
    router.run(["nft", "flush", "chain", "inet", "gatehouse", "input"])
    # by the time that one is repaired, the other one has been looked at
    repair = repaired(router, before, "netfilter")
    assert repair.number == (before.number if before else 0) + 1
    assert "inet other" in router.run(["nft", "list", "tables"]).stdout
    router.run(["nft", "delete", "table", "inet", "other"])


def test_each_daemon_is_back_within_five_seconds(router: Router) -> None:
    daemons = [command for pid, command in router.processes().items() if pid != 1 and "appliance.agent" not in command]
    daemons = [command for command in daemons if not command.startswith(("nsenter", "sh ", "cat "))]
    assert daemons
    for command in daemons:
        before = newest(router)
        old = router.kill(command)
        begin = time.monotonic()
        wait_for(lambda command=command, old=old: set(router.pids(command)) - set(old), 10, command)  # type: ignore[misc]
        assert time.monotonic() - begin < 5
        repair = wait_for(lambda before=before: newest(router) != before and newest(router), 5, "the repair")  # type: ignore[misc]
        assert isinstance(repair, Repair)
        assert "SIGKILL" in repair.reason
    wait_for(lambda: resolves(router), 5, "DNS")


def test_a_changed_file_is_put_right_and_its_daemon_reads_it(router: Router) -> None:
    before = newest(router)
    path = "/etc/gatehouse/dhcp/names"
    content = router.read(path)
    router.write(path, "")
    router.kill("dnsmasq", "HUP")
    assert "names was changed" in repaired(router, before, "dhcp").reason
    assert router.read(path) == content
    wait_for(lambda: resolves(router), 5, "DNS")


def test_a_removed_address_is_back(router: Router) -> None:
    before = newest(router)
    router.run(["ip", "address", "del", "10.1.1.1/24", "dev", "eth0"])
    repaired(router, before, "interfaces")
    assert "10.1.1.1/24" in router.run(["ip", "-4", "address", "show", "dev", "eth0"]).stdout


def test_an_agent_that_dies_takes_no_daemon_with_it_and_numbers_go_on(router: Router) -> None:
    count = len(router.status().repairs)
    assert count
    daemons = router.pids("dnsmasq")
    status = router.status()
    generation = router.run(["nft", "list", "ruleset"]).stdout
    router.kill_agent()
    after = wait_for(lambda: (now := router.status()).started != status.started and now, 15, "the next agent")
    assert after
    assert (after.generation, after.digest, after.repairs) == (status.generation, status.digest, status.repairs)
    assert router.pids("dnsmasq") == daemons
    assert router.run(["nft", "list", "ruleset"]).stdout == generation
    before = newest(router)
    router.kill("dnsmasq")
    repair = wait_for(lambda: newest(router) != before and newest(router), 5, "the repair")
    assert isinstance(repair, Repair)
    assert repair.number == (before.number if before else 0) + 1


def test_a_stopped_daemon_shows_in_health(router: Router) -> None:
    router.wait_healthy(20)
    router.kill("dnsmasq", "STOP")
    wait_for(lambda: not router.health().services["dhcp"].healthy, 20, "the probe to fail")
    assert not router.health().healthy
    router.kill("dnsmasq", "CONT")
    router.wait_healthy(20)


def test_a_reboot_from_outside_comes_back_by_itself(router: Router) -> None:
    ruleset = router.run(["nft", "list", "ruleset"]).stdout
    router.stop(force=True)
    with pytest.raises(AgentUnreachableError):
        router.status()
    router.start()
    router.wait_healthy(20)
    assert router.run(["nft", "list", "ruleset"]).stdout == ruleset
    wait_for(lambda: resolves(router), 5, "DNS")


def test_a_tampered_last_good_is_noticed_and_a_new_document_helps(router: Router, state: dict[str, Any]) -> None:
    path = "/var/lib/gatehouse/last-good"
    content = router.read(path)
    router.write(path, content.replace("vm1", "vm9"))
    status = router.status()
    router.kill_agent()
    wait_for(lambda: router.status().started != status.started, 15, "the next agent")
    health = wait_for(lambda: not (now := router.health()).healthy and now, 10, "the report")
    assert health
    assert "last-good is damaged" in health.services["engine"].detail
    assert resolves(router)
    assert router.push(state).generation == router.generation
    router.wait_healthy()


def test_a_full_disk_is_refused_and_nothing_changes(lab: Lab, router: Router, state: dict[str, Any]) -> None:
    before = router.status()
    ruleset = router.run(["nft", "list", "ruleset"]).stdout
    # the disk of the state directory is the machine's: let the agent reach its limit on file sizes instead
    pid = router.kill_agent()
    wait_for(lambda: pid not in router.pids("appliance.agent") and router.status(), 15, "the next agent")
    router.run(["prlimit", f"--pid={router.pids('appliance.agent')[0]}", "--fsize=100:unlimited"])
    changed = {**state, "hostname": "other", "nat": {**state["nat"], "forwards": [forward(81)]}}
    status = router.push_document(router.document(changed))
    assert status.attempt is not None
    assert status.attempt.outcome == "refused"
    assert status.attempt.problems[0].stage == "commit"
    assert "File too large" in status.attempt.problems[0].message
    assert (status.generation, status.digest) == (before.generation, before.digest)
    assert router.run(["nft", "list", "ruleset"]).stdout == ruleset
    router.run(["prlimit", f"--pid={router.pids('appliance.agent')[0]}", "--fsize=unlimited:unlimited"])
    assert router.push(changed).generation == router.generation
