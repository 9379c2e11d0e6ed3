from __future__ import annotations

from tests.netns.lab import Lab
from tests.netns.router.guests import *


def test_lease(lab: Lab) -> None:
    n = Network(lab)
    g = n.guest(0)
    print(g.dhcp())
    print(n.router.status(), n.router.health(), n.router.metrics())
    print(g.run(["dig", "@10.1.1.1", "vm1.a.example"]).stdout)
    print(g.http("http://10.1.1.1/latest/"))
    for pid, c in n.router.processes().items():
        print(pid, c, [l for l in n.router.read(f"/proc/{pid}/smaps_rollup").splitlines() if l.startswith("Pss:")])
    print(n.router.text_logs())
    assert 0
