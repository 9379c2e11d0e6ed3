"""Collects what appliances have metered (controlplane/usage/traffic.py)."""

from __future__ import annotations

import logging

from controlplane.appliances import machines
from controlplane.convergence.push import AgentClient, AgentError
from controlplane.convergence.roles import role_of
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
    """The same, and what its role has to fetch, of an appliance that is about to go.

    One that does not answer takes what it had with it.
    """
    with core.database.reading() as session:
        appliance = session.get(Appliance, appliance_id)
        if appliance is None or appliance.state not in ("Running", "Stopping") or appliance.observed_generation == 0:
            return
        agent, role = machines.agent_of(appliance), role_of(appliance)
    client = AgentClient(agent, core.authority, core.hypervisor.connect)
    try:
        collect(core, client, appliance_id)
        role.fetch_last(core, client)
    except (AgentError, OSError) as error:
        log.warning("the last of what %s had is lost: %s", appliance_id, error)
    finally:
        client.close()
