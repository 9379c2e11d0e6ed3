"""Collects what appliances have metered (controlplane/usage/traffic.py)."""

from __future__ import annotations

import logging

from controlplane.appliances import machines
from controlplane.convergence.push import AgentClient, AgentError
from controlplane.core import Core
from controlplane.store.models import Appliance
from controlplane.usage import traffic

log = logging.getLogger(__name__)


def collect(core: Core, client: AgentClient, appliance_id: str) -> None:
    """Ask an appliance for its totals and take them in. Raises AgentError."""
    told = client.traffic()
    if told is not None and told.counters:
        with core.database.transaction() as session:
            traffic.take(session, appliance_id, told)


def collect_last(core: Core, appliance_id: str) -> None:
    """The same for an appliance that is about to go; one that does not answer takes what it had with it."""
    with core.database.reading() as session:
        appliance = session.get(Appliance, appliance_id)
        if appliance is None or appliance.state not in ("Running", "Stopping") or appliance.observed_generation == 0:
            return
        agent = machines.agent_of(appliance)
    client = AgentClient(agent, core.authority, core.hypervisor.connect)
    try:
        collect(core, client, appliance_id)
    except AgentError as error:
        log.warning("the last traffic of %s is not known: %s", appliance_id, error)
    finally:
        client.close()
