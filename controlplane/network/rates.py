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


class Unset:
    """What the settings say where an offering says nothing; looked up once for each zone."""

    def __init__(self, session: Session, configuration: Configuration) -> None:
        self._session, self._configuration = session, configuration
        self._networks: dict[str, int] = {}
        self._vms: int | None = None

    def network(self, zone_id: str) -> int:
        if zone_id not in self._networks:
            self._networks[zone_id] = self._configuration.get_int(self._session, NETWORK_RATE, zone=zone_id)
        return self._networks[zone_id]

    def vm(self) -> int:
        if self._vms is None:
            self._vms = self._configuration.get_int(self._session, VM_RATE)
        return self._vms


def choose(default: bool, vm_rate: int | None, network_rate: int | None, zone_id: str, unset: Unset) -> int:
    """The rate of a guest's NIC, of the default one or not, from what its offerings say."""
    if default:
        return vm_rate if vm_rate is not None else unset.vm()
    return network_rate if network_rate is not None else unset.network(zone_id)


def of_network(session: Session, configuration: Configuration, offered: int | None, zone_id: str) -> int:
    """The rate of a guest network whose offering says ``offered``."""
    return offered if offered is not None else Unset(session, configuration).network(zone_id)


def of_nic(session: Session, configuration: Configuration, nic: Nic) -> int:
    """The rate of a guest's NIC."""
    offerings = nic.vm.service_offering.network_rate, nic.network.offering.network_rate
    return choose(nic.is_default, *offerings, nic.network.zone_id, Unset(session, configuration))
