"""Templates between zones: two SSVMs, each in its zone, and an internet between them."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.convergence.intent.rows import public_segment
from controlplane.hypervisors.base import Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, Cloud
from tests.netns.controlplane.storing import ssvms, storing
from tests.wait import wait_for

GATEWAY, FIRST, LAST = "192.0.2.1", "192.0.2.10", "192.0.2.20"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with storing() as made:
        second_zone(made)
        for zone in made.admin.listZones()["zone"]:
            made.admin.addImageStore(provider="Local", name=f"store of {zone['name']}", zoneid=zone["id"])
        wait_for(lambda: len(ssvms(made, "Running")) == 2, 60, "a secondary storage VM in each zone")
        yield made


def second_zone(cloud: Cloud) -> None:
    """A zone on the same machine, behind the same internet."""
    names = {"dns1": GATEWAY, "internaldns1": GATEWAY}
    zone = cloud.admin.createZone(name="zone2", networktype="Advanced", **names)["zone"]["id"]
    physical = cloud.admin.createPhysicalNetwork(name="physical2", zoneid=zone)
    physical_id = physical["physicalnetwork"]["id"]
    addresses = {"startip": FIRST, "endip": LAST, "gateway": GATEWAY, "netmask": "255.255.255.0"}
    cloud.admin.createVlanIpRange(zoneid=zone, physicalnetworkid=physical_id, vlan="untagged", **addresses)
    vlan = cloud.admin.listVlanIpRanges(zoneid=zone)["vlaniprange"][0]["vlan"]
    cloud.stop()
    _share_host(cloud, zone)
    owner = NamespaceHypervisor(cloud.data / "namespace", data=cloud.data)
    owner.open()
    try:
        segment = public_segment(physical_id, vlan)
        owner.ensure_segment(Segment(segment))
        owner.attach_nic(INTERNET, Nic("02:00:5e:00:53:02", segment, trusted=True))
    finally:
        owner.close()
    for words in (("address", "add", f"{GATEWAY}/24", "dev", "eth1"), ("link", "set", "eth1", "up")):
        cloud.run(INTERNET, ["ip", *words])
    cloud.run(INTERNET, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    cloud.start()


def _share_host(cloud: Cloud, zone_id: str) -> None:
    """The namespace hypervisor has one host; here it stands for one in another zone too."""
    with sqlite3.connect(cloud.data / "gatehouse.db") as database:
        new = {}
        for table, parent in (("pod", "zone_id"), ("cluster", "pod_id"), ("host", "cluster_id")):
            cursor = database.execute(f"select * from {table}")
            columns, row = [each[0] for each in cursor.description], cursor.fetchone()
            values = dict(zip(columns, row, strict=True))
            values["id"] = new[table] = str(uuid.uuid4())
            values[parent] = zone_id if table == "pod" else new["pod" if table == "cluster" else "cluster"]
            marks = ", ".join("?" * len(values))
            database.execute(
                f"insert into {table} ({', '.join(values)}) values ({marks})",
                list(values.values()),
            )


def zone(cloud: Cloud, name: str) -> str:
    id: str = cloud.admin.listZones(name=name)["zone"][0]["id"]
    return id


def in_zones(cloud: Cloud, id: str) -> dict[str, dict[str, Any]]:
    found = cloud.admin.listTemplates(templatefilter="self", id=id).get("template", [])
    return {one["zonename"]: one for one in found}


def files(cloud: Cloud, name: str, id: str) -> list[Path]:
    """The template's objects in the store of a zone."""
    url = cloud.admin.listImageStores(name=f"store of {name}")["imagestore"][0]["url"]
    root = Path(url.removeprefix("file://"))
    return [path for path in root.rglob("*") if path.is_file() and id in path.parts]


def test_a_template_goes_from_ssvm_to_ssvm(cloud: Cloud) -> None:
    digest = origins.image(cloud, "wide.qcow2", size="32M", filled="16M")
    given = {"format": "QCOW2", "hypervisor": "KVM", "displaytext": "wide", "zoneid": zone(cloud, "zone1")}
    id = cloud.admin.registerTemplate(name="wide", url=origins.url("wide.qcow2"), **given)["template"][0]["id"]
    wait_for(lambda: in_zones(cloud, id)["zone1"]["isready"], 60, "the template")
    requests = cloud.run(INTERNET, ["cat", "/proc/net/dev"]).stdout
    copied = cloud.admin.copyTemplate(id=id, sourcezoneid=zone(cloud, "zone1"), destzoneid=zone(cloud, "zone2"))
    assert (copied["template"]["zonename"], copied["template"]["isready"]) == ("zone2", True)
    assert {name: one["isready"] for name, one in in_zones(cloud, id).items()} == {"zone1": True, "zone2": True}
    [path] = files(cloud, "zone2", id)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    # it went by the internet between the two, and not by the control plane
    assert _forwarded(cloud) - _bytes(requests) > 16 << 20
    assert cloud.events("TEMPLATE.COPY.SUCCESS")
    # gone from one zone, there in the other
    cloud.admin.deleteTemplate(id=id, zoneid=zone(cloud, "zone1"))
    assert set(in_zones(cloud, id)) == {"zone2"}
    wait_for(lambda: not files(cloud, "zone1", id), 30, "the file to be deleted")
    assert files(cloud, "zone2", id)
    cloud.admin.deleteTemplate(id=id)


def _bytes(table: str) -> int:
    """Bytes that the internet's second NIC sent (proc_net(5))."""
    [line] = [line for line in table.splitlines() if line.strip().startswith("eth1:")]
    return int(line.split(":")[1].split()[8])


def _forwarded(cloud: Cloud) -> int:
    return _bytes(cloud.run(INTERNET, ["cat", "/proc/net/dev"]).stdout)


def test_a_template_for_all_zones_comes_to_each(cloud: Cloud) -> None:
    origins.image(cloud, "everywhere.qcow2")
    given = {"format": "QCOW2", "hypervisor": "KVM", "displaytext": "e", "zoneid": "-1"}
    made = cloud.admin.registerTemplate(name="e", url=origins.url("everywhere.qcow2"), **given)["template"]
    id = made[0]["id"]
    assert len(made) == 2
    wait_for(lambda: all(one["isready"] for one in in_zones(cloud, id).values()), 60, "both")
    cloud.admin.deleteTemplate(id=id)
    assert cloud.admin.listTemplates(templatefilter="self").get("template", []) == []
