"""``make demo``: two tenants' networks served end to end, each service used by a real client."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.demo.checks import CHECKS
from tests.demo.stages import STAGES
from tests.demo.world import World


def main() -> int:
    """Build the world, run every check, print the table; 0 when all passed."""
    options = _options()
    logging.basicConfig(level=logging.ERROR)
    # ended from outside, it removes everything too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-demo-"))
    world = World(directory, STAGES[options.hypervisor](directory))
    try:
        _build(world)
        passed = _check(world)
        print(
            f"\n{time.monotonic() - began:.0f} s in all; {'every check passed' if passed else 'NOT every check passed'}"
        )
        if options.keep:
            _keep(world)
    finally:
        _say("removing everything")
        world.close()
    return 0 if passed else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--hypervisor", choices=sorted(STAGES), default="namespace", help="what runs routers and guests"
    )
    parser.add_argument("--keep", action="store_true", help="leave it running and print the API address")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"-- {text}", flush=True)


def _build(world: World) -> None:
    _say(f"starting the control plane (SQLite, {world.stage.title})")
    world.serve()
    _say(f"API at http://127.0.0.1:{world.cloud.port}/client/api; connecting a small internet")
    world.connect_internet()
    for name in ("alice", "bob"):
        tenant = world.add_tenant(name)
        for guest, template, address in (("web", "builtin", "10.1.1.10"), ("shell", "bare", "10.1.1.20")):
            begin = time.monotonic()
            world.deploy(tenant, guest, template, address)
            _say(f"{name}: {guest} runs after {time.monotonic() - begin:.1f} s")
        world.look_up(tenant)
        tenant.shell.dhcp()


def _check(world: World) -> bool:
    rows = []
    for name, check in CHECKS:
        begin = time.monotonic()
        try:
            result, detail = "ok", check(world)
        except Exception as error:
            result, detail = "FAILED", f"{type(error).__name__}: {error}"
        rows.append((name, result, detail))
        _say(f"{name}: {result} ({time.monotonic() - begin:.1f} s)")
    width = max(len(name) for name, _, _ in rows)
    print("\nWhat was checked")
    for name, result, detail in rows:
        print(f"  {name:<{width}}  {result:<6}  {detail}")
    return all(result == "ok" for _, result, _ in rows)


def _keep(world: World) -> None:
    print(f"\nStill running. API: http://127.0.0.1:{world.cloud.port}/client/api")
    print(f"Keys:  gatehouse admin-keys --data {world.data}")
    print(f"Guest: gatehouse exec --data {world.data} {world.tenants[0].web.id} -- ip address")
    print("Ctrl-C ends it and removes everything.", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    sys.exit(main())
