"""``python -m tests.bench.fetcher URL DIRECTORY COUNT``: fetches ``COUNT`` files at once as an SSVM's worker does.

Prints a line of JSON: seconds and the peak of resident memory in MB.
"""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
import time
from ipaddress import IPv4Network
from pathlib import Path
from unittest.mock import patch

from ssvm.fetch import addresses
from ssvm.fetch.addresses import Reach, resolver
from ssvm.fetch.connection import Way
from ssvm.fetch.download import Fetch, Wish
from ssvm.fetch.pace import Pace
from ssvm.fetch.part import Part
from ssvm.jobs.context import Cancel, Progress


def main() -> None:
    url, directory, count, checksum = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    way = Way(Reach(internal_sites=(IPv4Network("127.0.0.0/8"),)), resolver(()), ssl.create_default_context())
    wish = Wish(url, 1 << 40, checksum)

    def fetch(number: int) -> None:
        part = Part(directory, f"job-{number}")
        Fetch(wish, part, way, Pace(), Progress(), Cancel()).run()
        part.close()

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(count)]
    begin = time.monotonic()
    # the origin of the benchmark is on loopback, which is never reached otherwise
    with patch.object(addresses, "NEVER", ()):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(json.dumps({"seconds": time.monotonic() - begin, "memory": peak()}))


def peak() -> float:
    """The most memory that this program had, MB: getrusage() also counts what the process was before it."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
