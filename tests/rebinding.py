"""``python -m tests.rebinding PUBLIC INNER LOG``: a resolver on port 53 whose names change their address.

``once.NAME`` is PUBLIC when first asked for and INNER from then on, ``both.NAME`` is both, all else is INNER. The names
that were asked for are lines of LOG.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from pathlib import Path

import dns.message
import dns.rrset


def main() -> None:
    public, inner, log = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    asked: Counter[str] = Counter()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("", 53))
        log.touch()
        while True:
            data, client = serving.recvfrom(4096)
            query = dns.message.from_wire(data)
            name = query.question[0].name.to_text()
            asked[name] += 1
            with log.open("a") as out:
                print(name, file=out)
            addresses = {"once": [public] if asked[name] == 1 else [inner], "both": [public, inner]}
            response = dns.message.make_response(query)
            response.answer = [dns.rrset.from_text(name, 0, "IN", "A", *addresses.get(name.partition(".")[0], [inner]))]
            serving.sendto(response.to_wire(), client)


if __name__ == "__main__":
    main()
