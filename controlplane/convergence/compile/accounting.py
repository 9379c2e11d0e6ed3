"""What a router counts, and whose it is."""

from __future__ import annotations

from ipaddress import IPv4Address

from controlplane.convergence.compile.encoding import dump
from controlplane.convergence.compile.served import Served
from router.services.accounting.model import Accounting, Subject


def section(served: Served) -> bytes:
    """The document's ``accounting``: public addresses go by the ids of their rows, guests by those of their NICs."""
    addresses = sorted(served.addresses.values(), key=lambda public: public.id)
    return dump(
        Accounting(addresses=tuple(Subject(id=public.id, address=IPv4Address(public.address)) for public in addresses))
    )
