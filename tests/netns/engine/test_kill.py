"""kill -9 of the agent at random moments of applying documents: always the old state or the new, never a mixture."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from controlplane.convergence.push import AgentError
from tests.netns.engine.documents import forward, host, small_network
from tests.netns.lab import Lab, Router
from tests.wait import wait_for

KILLS = 100
ROUTERS = 4


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
echo ruleset; nft list table inet gatehouse; nft list table ip mangle
echo addresses; ip -brief -4 address show dev eth2
echo files; cd /etc/gatehouse; find . -type f | sort | while read -r name; do echo "$name"; cat "$name"; done
echo daemons; for name in only-old only-new also-new; do dig +short +time=1 +tries=2 $name.one.example @10.1.1.1; done
"""


# ready beforehand: finding the agent takes longer than applying does
KILLER = """
for process in /proc/[0-9]*; do grep -qsz '^appliance.agent$' $process/cmdline && pid=${process#/proc/}; done
echo $pid; read -r now; kill -9 $pid
"""


def picture(router: Router) -> list[str]:
    text = re.sub(r"packets \d+ bytes \d+", "", router.run(["sh", "-c", LOOK]).stdout)
    # the kernel lists a hash set in no particular order
    text = re.sub(
        r"elements = \{(.*?)\}", lambda found: str(sorted(re.split(r",\s*", found[1]))), text, flags=re.DOTALL
    )
    return text.splitlines()


def document(router: Router, state: dict[str, Any], generation: int) -> bytes:
    raw = {"kind": "router", "id": router.id, "generation": generation, "state": state}
    return json.dumps(raw).encode()


@dataclass
class Rounds:
    """One router that is killed again and again, and what each of its two states looks like."""

    router: Router
    states: tuple[dict[str, Any], dict[str, Any]]
    pictures: list[list[str]] = field(default_factory=list)
    #: which of the two it is in
    at: int = 0
    outcomes: list[bool] = field(default_factory=list)
    #: how long applying takes, in seconds
    seconds: float = 0.0

    def learn(self) -> None:
        for state in self.states:
            status = self.router.push(state)
            assert status.attempt is not None
            self.seconds = status.attempt.seconds
            self.pictures.append(picture(self.router))
        self.at = 1
        assert self.pictures[0] != self.pictures[1]

    def kill(self, moment: float) -> None:
        """Push the other state and kill the agent ``moment`` seconds after."""
        router = self.router
        generation = router.generation + 1
        wanted = document(router, self.states[1 - self.at], generation)
        started = router.status().started
        killer = router.popen(["sh", "-c", KILLER], stdin=subprocess.PIPE)
        assert killer.stdout is not None
        assert killer.stdout.readline().strip().isdecimal()
        push = threading.Thread(target=ignore_errors, args=(router, wanted))
        push.start()
        time.sleep(moment)
        killer.communicate("now\n")
        push.join()
        found = wait_for(lambda: settled(router, started), 20, "the next agent")
        changed = found == generation
        self.outcomes.append(changed)
        if changed:
            self.at, router.generation = 1 - self.at, generation
        assert picture(router) == self.pictures[self.at], f"not wholly the {('old', 'new')[changed]} state"


def test_always_the_old_state_or_the_new(lab: Lab) -> None:
    # several routers at once, as most of the time goes by waiting for the next agent
    every = []
    for number in range(ROUTERS):
        old, new = states(lab)
        router = lab.router(old, segments={"eth0": f"guest-{number}", "eth2": f"public-{number}"})
        every.append(Rounds(router, (old, new)))
        every[-1].learn()

    def repeat(rounds: Rounds, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(KILLS // ROUTERS):
            rounds.kill(chance.uniform(0, 1.5 * rounds.seconds + 0.05))

    with ThreadPoolExecutor(ROUTERS) as pool:
        list(pool.map(repeat, every, range(ROUTERS)))
    outcomes = [changed for rounds in every for changed in rounds.outcomes]
    assert len(outcomes) == KILLS
    assert 5 <= sum(outcomes) <= KILLS - 5, f"{sum(outcomes)} of {KILLS} went through: the kills were not spread"
    # and the next apply works
    for rounds in every:
        rounds.router.push(rounds.states[0])
        assert picture(rounds.router) == rounds.pictures[0]
        rounds.router.wait_healthy()


def ignore_errors(router: Router, body: bytes) -> None:
    with contextlib.suppress(AgentError):
        router.push_document(body, wait=1)


def settled(router: Router, before: float) -> int:
    """The generation that a new agent has come back to; 0 while it has not."""
    if router.status().started == before:
        return 0
    health = router.health()
    return health.generation if health.healthy else 0
