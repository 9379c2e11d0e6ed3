"""What happens without anyone asking.

Unused networks end, destroyed VMs are expunged, VM states follow reality, NICs' rates their offerings and settings,
and usage records are made.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select

from appliance.errors import GatehouseError
from controlplane import events
from controlplane.compute import hosts, rates
from controlplane.convergence.desired import desire_network
from controlplane.convergence.reconciler import Reconciler
from controlplane.core import Core, Stopping
from controlplane.network import networks as network_rows
from controlplane.network import remoteaccess
from controlplane.storage import pools, volumes
from controlplane.store.models import Network, NetworkOffering, Vm, Volume, now
from controlplane.templates import primary
from controlplane.usage import service
from controlplane.workflows import networks, recurring, vms
from controlplane.workflows import volumes as volume_flows
from controlplane.workflows.flow import Flow, Locks

log = logging.getLogger(__name__)

#: seconds between two comparisons of the VMs' states with the hypervisor's, of NICs' rates with those wanted, and
#: between two looks whether usage records and whether certificates of VPNs are due
INTERVALS = {"power": 10.0, "hosts": 10.0, "rates": 10.0, "usage": 30.0, "certificates": 3600.0, "snapshots": 5.0}
#: seconds between two looks at the settings: a changed interval counts soon
TICK = 1.0


class Housekeeping:
    """A thread that does each task when it is due, between ``start`` and ``stop``."""

    def __init__(self, core: Core, reconciler: Reconciler, locks: Locks, start: recurring.Start) -> None:
        self._core, self._start = core, start
        # every task can be done again, so its steps need no record
        self._reconciler = reconciler
        self._flow = Flow(core, reconciler, locks, None, lambda _name, function: function())
        self._stopping, self._awake = threading.Event(), threading.Event()
        self._hurry: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def hurry(self, name: str) -> None:
        """Do a task (``rates``, ``usage``, ...) at once rather than when it is due."""
        self._hurry.add(name)
        self._awake.set()

    def _hurried(self, name: str) -> bool:
        if name not in self._hurry:
            return False
        self._hurry.discard(name)
        return True

    def _run(self) -> None:
        begun = time.monotonic()
        tasks: dict[str, Callable[[], None]] = {
            "network.gc.interval": self.collect_networks,
            "expunge.interval": self.expunge,
            "power": self.follow_power,
            "rates": self.follow_rates,
            "usage": self.make_usage,
            "hosts": self.follow_hosts,
            "certificates": self.renew_certificates,
            "snapshots": self.make_snapshots,
        }
        last = dict.fromkeys(tasks, begun)
        while not self._stopping.is_set():
            self._awake.wait(TICK)
            self._awake.clear()
            for name, task in tasks.items():
                try:
                    if self._hurried(name) or time.monotonic() - last[name] >= self._interval(name):
                        last[name] = time.monotonic()
                        task()
                except Stopping:
                    return
                except Exception:
                    log.exception("housekeeping task %s failed; it is tried again", name)

    def _interval(self, name: str) -> float:
        if name in INTERVALS:
            return INTERVALS[name]
        with self._core.database.reading() as session:
            return self._core.configuration.get_int(session, name)

    def follow_rates(self) -> None:
        """Change the rates of running VMs' NICs that are not as offerings and settings say."""
        for problem in rates.follow(self._core):
            log.warning("rate not changed: %s", problem)

    def make_usage(self) -> None:
        """Make the usage records that are due, check them when that is due, drop old traffic samples."""
        service.work(self._core.database, self._core.configuration)

    def make_snapshots(self) -> None:
        """Begin the snapshots that policies want by now."""
        recurring.make_due(self._core, self._start)

    def renew_certificates(self) -> None:
        """Give VPN servers their next certificates in time."""
        core = self._core
        with core.database.transaction() as session:
            renewed = remoteaccess.renew(session, core.secrets, core.authority)
            targets = [desire_network(session, network_id) for network_id in renewed]
        for router_id in (target[0] for target in targets if target is not None):
            self._reconciler.wake(router_id)

    def collect_networks(self) -> None:
        """Shut down networks, but persistent ones, without an active guest for ``network.gc.wait`` seconds."""
        with self._core.database.transaction() as session:
            wait = timedelta(seconds=self._core.configuration.get_int(session, "network.gc.wait"))
            statement = (
                select(Network.id, Network.idle_since, Network.state)
                .join(NetworkOffering, NetworkOffering.id == Network.network_offering_id)
                .where(Network.removed.is_(None), Network.state.in_(("Implemented", "Shutdown")))
                .where(NetworkOffering.is_persistent.is_(False))
            )
            candidates = list(session.execute(statement))
            # a network that lost its guests in an unusual way has no time yet: it counts from now
            network_rows.mark_idle(session, [network.id for network in candidates if network.idle_since is None])
        for network in candidates:
            due = network.idle_since is not None and network.idle_since + wait <= now()
            # a shutdown that a crash cut short is finished at once
            if (due or network.state == "Shutdown") and networks.shutdown(self._flow, network.id):
                log.info("network %s had no running guests and was shut down", network.id)

    def expunge(self) -> None:
        """Free what VMs had, and volumes, that were destroyed more than ``expunge.delay`` seconds ago."""
        with self._core.database.reading() as session:
            delay = timedelta(seconds=self._core.configuration.get_int(session, "expunge.delay"))
            statement = select(Vm.id).where(
                # Expunging: begun before, but not done
                Vm.state.in_(("Destroyed", "Expunging")),
                Vm.removed.is_(None),
                Vm.destroyed <= now() - delay,
            )
            due = list(session.scalars(statement))
            gone = list(
                session.scalars(
                    select(Volume.id).where(
                        Volume.removed.is_(None),
                        Volume.type == "DATADISK",
                        (Volume.state == "Expunging")
                        | ((Volume.state == "Destroy") & (Volume.destroyed <= now() - delay)),
                    )
                )
            )
        for vm_id in due:
            try:
                vms.expunge_vm(self._flow, vm_id)
            except GatehouseError as error:
                log.warning("virtual machine %s was not expunged: %s", vm_id, error)
        for name in primary.collect(self._core):
            log.info("template %s was deleted and left primary storage", name)
        for volume_id in gone:
            try:
                volume_flows.discard(self._flow, volume_id)
            except GatehouseError as error:
                log.warning("volume %s was not expunged: %s", volume_id, error)

    def follow_hosts(self) -> None:
        """Hosts are Up or Down, and have what they have."""
        facts = self._core.hypervisor.facts()
        with self._core.database.transaction() as session:
            hosts.note_hosts(session, facts)
            pools.note_space(session, self._core.hypervisor.volumes)

    def follow_power(self) -> None:
        """VMs that run no more, because the guest shut itself down or the host restarted, are Stopped."""
        power = {instance.id: instance.power for instance in self._core.hypervisor.instances()}
        with self._core.database.reading() as session:
            running = list(session.scalars(select(Vm.id).where(Vm.state == "Running")))
        for vm_id in running:
            if power.get(vm_id, "absent") in ("running", "unknown"):
                continue
            with self._core.database.transaction() as session:
                vm = session.get_one(Vm, vm_id)
                # a workflow may have begun something meanwhile
                if vm.state != "Running" or self._core.hypervisor.power(vm_id) == "running":
                    continue
                vm.state = "Stopped"
                volumes.idle(session, vm_id)
                network_rows.mark_idle(session, [nic.network_id for nic in vm.nics])
                events.record(
                    session,
                    "VM.STOP",
                    f"virtual machine {vm.name} was found stopped",
                    account_id=vm.account_id,
                    level="WARN",
                    resource=("UserVm", vm.id),
                )
