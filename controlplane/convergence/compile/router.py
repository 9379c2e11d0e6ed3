"""Intent to document: pure, the same intent gives the same bytes.

The long lists are compiled entry by entry and remembered: a document with 20,000 rules of which one is new costs
little more than that one. Rows that point at something that is gone are left out, so every intent has a document.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from controlplane.convergence.compile import (
    accounting,
    dhcp,
    firewall,
    loadbalancer,
    metadata,
    nat,
    passwords,
    shaping,
    sourceguard,
    vpn,
)
from controlplane.convergence.compile.encoding import dump, extend, object_of
from controlplane.convergence.compile.memo import Memo
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import Intent

#: field of RouterState -> makes its JSON, or None when the router has no such section
SECTIONS: Mapping[str, Callable[[Served], bytes | None]] = {
    "hostname": lambda served: json.dumps(served.intent.name).encode(),
    "interfaces": lambda served: dump(served.interfaces),
    "nat": nat.section,
    "firewall": firewall.section,
    "accounting": accounting.section,
    "dhcp": dhcp.section,
    "metadata": metadata.section,
    "passwords": passwords.section,
    "loadbalancer": loadbalancer.section,
    "vpn": vpn.section,
    "shaping": shaping.section,
    "sourceguard": sourceguard.section,
}


def compile_router(intent: Intent, memo: Memo | None = None) -> bytes:
    """The RouterDocument (JSON, UTF-8) of one router. ``memo`` is kept between compiles of the same appliance.

    Raises CompileError when a row is not fit for a document, which the API should have refused.
    """
    served = Served(intent, memo or Memo())
    state = {name: encoded for name, section in SECTIONS.items() if (encoded := section(served)) is not None}
    head = {"kind": "router", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return extend(json.dumps(head).encode(), state=object_of(state))
