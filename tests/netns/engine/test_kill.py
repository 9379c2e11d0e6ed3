"""kill -9 of the agent at random moments of applying documents: always the old state or the new one, never a mixture."""

from __future__ import annotations

import copy
import json
import random
import re
import threading
import time
from typing import Any

from controlplane.push import AgentError
from tests.netns.engine.documents import forward, host, small_network
from tests.netns.lab import Lab, Router
from tests.wait import wait_for

KILLS = 100


def states(lab: Lab) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two states that differ in files, ruleset, addresses and what the daemons know."""
    old = small_network(lab)
    new = copy.deepcopy(old)
    new["interfaces"]["interfaces"][2]["addresses"].append("203.0.113.6/24")
    old["dhcp"]["hosts"] = [host(20, "only-old")]
    new["dhcp"]["hosts"] = [host(20, "only-new"), host(21, "also-new")]
    old["nat"]["forwards"] = [forward(80), forward(81)]
    new["nat"]["forwards"] = [forward(80), forward(8080)]
    new["firewall"]["ingress"] = [
        {"id": "i1", "address": "203.0.113.6", "protocol": "tcp", "ports": {"first": 22, "last": 22}, "sources": []}
    ]
    return old, new


LOOK = """
echo ruleset; nft list ruleset
echo addresses; ip -brief -4 address show dev eth2
echo files; cd /etc/gatehouse; find . -type f | sort | while read -r name; do echo "$name"; cat "$name"; done
echo daemons; for name in only-old only-new also-new; do dig +short +time=1 +tries=2 $name.one.example @10.1.1.1; done
"""


def picture(router: Router) -> str:
    text = router.run(["sh", "-c", LOOK]).stdout
    return re.sub(r"packets \d+ bytes \d+", "", text)


def document(router: Router, state: dict[str, Any], generation: int) -> bytes:
    raw = {"kind": "router", "id": router.id, "generation": generation, "state": state}
    return json.dumps(raw).encode()


def test_always_the_old_state_or_the_new(lab: Lab) -> None:
    old, new = states(lab)
    router = lab.router(old)
    pictures = {"old": picture(router)}
    status = router.push(new)
    assert status.attempt is not None
    pictures["new"] = picture(router)
    assert pictures["old"] != pictures["new"]
    longest = 1.5 * status.attempt.seconds + 0.02
    generation, is_old = router.generation, False
    seen = {"same": 0, "changed": 0}
    chance = random.Random(7)
    for _ in range(KILLS):
        generation += 1
        wanted = document(router, new if is_old else old, generation)
        # ready to kill at once: starting the command takes longer than applying does
        pid = router.pids("appliance.agent")[0]
        killer = router.popen(["sh", "-c", f"read -r now; kill -9 {pid}"], stdin=-1, stdout=-3, stderr=-3)
        push = threading.Thread(target=ignore_errors, args=(router, wanted))
        push.start()
        time.sleep(chance.uniform(0, longest))
        killer.communicate("now\n")
        push.join()
        found = wait_for(lambda pid=pid: settled(router, pid), 15, "the next agent")  # type: ignore[misc]
        changed = found == generation
        seen["changed" if changed else "same"] += 1
        is_old = is_old != changed
        wait_for(lambda: picture(router) == pictures["old" if is_old else "new"], 5, "one whole state")
        if not changed:
            generation -= 1
    assert min(seen.values()) >= 10, f"the kills were not spread over the transaction: {seen}"
    # and the next apply works
    router.generation = generation
    assert router.push(old).generation == router.generation
    assert picture(router) == pictures["old"]
    assert router.wait_healthy().healthy


def ignore_errors(router: Router, body: bytes) -> None:
    try:
        router.push_document(body, wait=1)
    except AgentError:
        pass  # it was killed


def settled(router: Router, killed: int) -> int:
    """The generation that a new agent has come back to; 0 while it has not."""
    if killed in router.pids("appliance.agent"):
        return 0
    health = router.health()
    return health.generation if health.healthy else 0
