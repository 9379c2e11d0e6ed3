"""``python -m consoleproxy.services.console.relay RELAY.json``: one process for the page and all sessions.

SIGHUP takes a new configuration up, certificate and port included, and closes no session that is still in it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import uvloop

from consoleproxy.services.console.relay.server import Relay


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Relay(Path(sys.argv[1])).run())


if __name__ == "__main__":
    sys.exit(main())
