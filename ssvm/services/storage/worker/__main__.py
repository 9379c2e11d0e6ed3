"""``python -m ssvm.services.storage.worker <storage.json>``: does jobs and serves links until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from ssvm.services.storage.worker.worker import Worker


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    return asyncio.run(Worker(Path(sys.argv[1])).run())


if __name__ == "__main__":
    sys.exit(main())
