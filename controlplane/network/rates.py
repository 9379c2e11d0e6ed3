"""Network rates: who may send and receive how fast (guide: chapter 8.3).

==============================  =====================================================================
interface                       Mbit/s, in each direction
==============================  =====================================================================
router, guest and public        the guest network's offering, else ``network.throttling.rate``
VM, default NIC                 the VM's service offering, else ``vm.network.throttling.rate``
VM, other NICs                  the network's offering, else ``network.throttling.rate``
control network, system VMs     none
==============================  =====================================================================

0 is no limit; an offering that says nothing leaves it to the setting.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.configuration import Configuration
from controlplane.store.models import Nic

NETWORK_RATE, VM_RATE = "network.throttling.rate", "vm.network.throttling.rate"


def of_network(session: Session, configuration: Configuration, offered: int | None, zone_id: str) -> int:
    """The rate of a guest network whose offering says ``offered``."""
    return offered if offered is not None else configuration.get_int(session, NETWORK_RATE, zone=zone_id)


def of_nic(session: Session, configuration: Configuration, nic: Nic) -> int:
    """The rate of a guest's NIC."""
    if not nic.is_default:
        return of_network(session, configuration, nic.network.offering.network_rate, nic.network.zone_id)
    offered = nic.vm.service_offering.network_rate
    return offered if offered is not None else configuration.get_int(session, VM_RATE)
