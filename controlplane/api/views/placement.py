"""Where an appliance runs, as the API shows it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.store.models import Appliance, Cluster, Host, Pod


def placement_of(session: Session, appliance: Appliance) -> dict[str, str]:
    """Fields hostid, hostname, hypervisor, podid and podname; nothing before it was placed."""
    host = session.get(Host, appliance.host_id) if appliance.host_id else None
    if host is None:
        return {}
    cluster = session.get_one(Cluster, host.cluster_id)
    pod = session.get_one(Pod, cluster.pod_id)
    return {
        "hostid": host.id,
        "hostname": host.name,
        "hypervisor": cluster.hypervisor,
        "podid": pod.id,
        "podname": pod.name,
    }
