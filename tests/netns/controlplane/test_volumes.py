"""Volumes and snapshots through the API and a real SSVM: what is in the files in the end."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.netns.controlplane.storing import curl, storing, zone
from tests.netns.hypervisor.machine import namespaces_of
from tests.wait import wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with storing("secondary") as made:
        yield made


@pytest.fixture(scope="module")
def content(cloud: Cloud) -> str:
    """SHA-256 of the disk in the image ``disk.qcow2`` of the origin."""
    origins.image(cloud, "disk.qcow2", size="16M", filled="4M")
    script = f"cd {origins.FILES} && qemu-img convert -O raw disk.qcow2 /root/disk.raw && sha256sum /root/disk.raw"
    return cloud.run(INTERNET, ["bash", "-c", script]).stdout.split()[0]


def disk(file: Path) -> str:
    """SHA-256 of the disk in a qcow2 file."""
    raw = file.with_suffix(".check")
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(file), str(raw)], check=True)
    try:
        return hashlib.sha256(raw.read_bytes()).hexdigest()
    finally:
        raw.unlink()


def fetched(cloud: Cloud, url: str) -> str:
    """SHA-256 of the disk in what a link gives."""
    curl(cloud, "-o", "/root/got.qcow2", url)
    script = "qemu-img convert -f qcow2 -O raw /root/got.qcow2 /root/got.raw && sha256sum /root/got.raw"
    return cloud.run(INTERNET, ["bash", "-c", script]).stdout.split()[0]


def volumes_of(cloud: Cloud) -> Path:
    return cloud.data / "namespace/storage"


def status_of(cloud: Cloud, job: str) -> int:
    """0 while it goes on, 1 when it succeeded."""
    return cloud.jobs([job])[job]


def shell(cloud: Cloud, vm: Answer, script: str) -> str:
    return cloud.run(vm["id"], ["sh", "-ec", script]).stdout.strip()


@pytest.fixture(scope="module")
def tenant(cloud: Cloud) -> CloudStack:
    return cloud.tenant("tina")


@pytest.fixture(scope="module")
def guests(cloud: Cloud, tenant: CloudStack) -> list[Answer]:
    """Two guests of a tenant's that run."""
    network = cloud.network(tenant, "n")
    bare = next(t for t in tenant.listTemplates(templatefilter="featured")["template"] if t["name"] == "bare")
    return [cloud.deploy(tenant, name, network, templateid=bare["id"]) for name in ("one", "two")]


@pytest.fixture
def attached(tenant: CloudStack, guests: list[Answer], cloud: Cloud) -> Iterator[Answer]:
    """A new volume of 1 GiB, attached to the first guest."""
    [offering] = [row for row in tenant.listDiskOfferings()["diskoffering"] if row["name"] == "Custom"]
    made = tenant.createVolume(name="v", zoneid=zone(cloud), diskofferingid=offering["id"], size=1)["volume"]
    yield tenant.attachVolume(id=made["id"], virtualmachineid=guests[0]["id"])["volume"]
    if "virtualmachineid" in tenant.listVolumes(id=made["id"])["volume"][0]:
        tenant.detachVolume(id=made["id"])
    tenant.deleteVolume(id=made["id"])
    wait_for(lambda: not tenant.listVolumes(id=made["id"]).get("volume"), 20, "the volume to be gone")


def uploaded(cloud: Cloud, name: str) -> Answer:
    made: Answer = cloud.admin.uploadVolume(
        name=name, url=origins.url("disk.qcow2"), format="QCOW2", zoneid=zone(cloud)
    )["volume"]
    return made


@pytest.fixture(scope="module")
def volume(cloud: Cloud, content: str) -> Answer:
    """An uploaded volume that came to primary storage."""
    made = uploaded(cloud, "data")
    assert (made["state"], made["size"]) == ("Uploaded", 16 * MIB)
    network = cloud.admin.createNetwork(
        name="n",
        displaytext="n",
        zoneid=zone(cloud),
        networkofferingid=cloud.admin.listNetworkOfferings(isdefault=True)["networkoffering"][0]["id"],
    )["network"]
    vm = cloud.deploy(cloud.admin, "vm1", network, startvm=False)
    # its file is made when it is attached
    cloud.admin.attachVolume(id=made["id"], virtualmachineid=vm["id"])
    shown = cloud.admin.detachVolume(id=made["id"])["volume"]
    assert shown["state"] == "Ready" and "virtualmachineid" not in shown
    assert disk(volumes_of(cloud) / shown["path"]) == content
    return dict(shown)


def test_an_uploaded_volume_goes_out_again_by_a_link(cloud: Cloud, content: str) -> None:
    made = uploaded(cloud, "only passing")
    link = cloud.admin.extractVolume(id=made["id"], zoneid=zone(cloud), mode="HTTP_DOWNLOAD")["volume"]
    assert link["url"].endswith("/only-passing.qcow2")
    assert fetched(cloud, link["url"]) == content
    assert link["url"].split("/")[4].encode() not in (cloud.data / "gatehouse.db").read_bytes()
    cloud.admin.deleteVolume(id=made["id"])
    wait_for(lambda: not cloud.admin.listVolumes(id=made["id"]).get("volume"), 20, "the volume to be gone")
    gone = ("403", "404")
    status = ("-o", "/dev/null", "-w", "%{http_code}", link["url"])
    wait_for(lambda: curl(cloud, *status) in gone, 30, "the link to be refused")


def test_a_volume_of_primary_storage_goes_out_by_a_link(cloud: Cloud, volume: Answer, content: str) -> None:
    link = cloud.admin.extractVolume(id=volume["id"], zoneid=zone(cloud), mode="HTTP_DOWNLOAD")["volume"]
    assert fetched(cloud, link["url"]) == content
    assert not list((volumes_of(cloud).parent / "images").rglob("exchange/*.qcow2"))


def test_a_snapshot_is_kept_in_secondary_storage_and_comes_back(cloud: Cloud, volume: Answer, content: str) -> None:
    snapshot = cloud.admin.createSnapshot(volumeid=volume["id"])["snapshot"]
    assert (snapshot["state"], snapshot["locationtype"]) == ("BackedUp", "SECONDARY")
    assert snapshot["physicalsize"] >= 4 * MIB
    assert list((volumes_of(cloud) / "snapshots").iterdir()) == []
    # the volume changes, and goes back
    own = volumes_of(cloud) / volume["path"]
    cloud.admin.resizeVolume(id=volume["id"], size=1)
    assert disk(own) != content
    cloud.admin.revertSnapshot(id=snapshot["id"])
    assert disk(own) == content
    assert cloud.admin.listVolumes(id=volume["id"])["volume"][0]["size"] == 16 * MIB
    # another volume of it, and a larger one
    made = cloud.admin.createVolume(name="again", snapshotid=snapshot["id"])["volume"]
    assert disk(volumes_of(cloud) / made["path"]) == content
    larger = cloud.admin.createVolume(name="larger", snapshotid=snapshot["id"], size=1)["volume"]
    assert larger["size"] == 1 << 30
    cloud.admin.deleteSnapshot(id=snapshot["id"])
    assert "snapshot" not in cloud.admin.listSnapshots()
    assert list((volumes_of(cloud) / "snapshots").iterdir()) == []


def test_templates_are_made_of_snapshots_and_volumes(cloud: Cloud, volume: Answer, content: str) -> None:
    snapshot = cloud.admin.createSnapshot(volumeid=volume["id"])["snapshot"]
    for source in ({"snapshotid": snapshot["id"]}, {"volumeid": volume["id"]}):
        other = cloud.admin.listOsTypes()["ostype"][0]["id"]
        made = cloud.admin.createTemplate(name="t", displaytext="t", ostypeid=other, **source)["template"]
        assert made["isready"] and made["size"] == 16 * MIB
        link = cloud.admin.extractTemplate(id=made["id"], mode="HTTP_DOWNLOAD", zoneid=zone(cloud))["template"]
        assert fetched(cloud, link["url"]) == content


def test_a_policy_makes_snapshots_by_itself(cloud: Cloud, volume: Answer) -> None:
    before = {row["id"] for row in cloud.admin.listSnapshots().get("snapshot", [])}
    policy = cloud.admin.createSnapshotPolicy(
        volumeid=volume["id"], intervaltype="HOURLY", schedule="0", timezone="UTC", maxsnaps=1
    )["snapshotpolicy"]
    # its time comes while nothing runs
    cloud.kill()
    with sqlite3.connect(cloud.data / "gatehouse.db") as database:
        database.execute("UPDATE snapshot_policy SET next_run = '2026-01-01 00:00:00'")
        # as if something had been written to it since
        database.execute("UPDATE volume SET idle_since = NULL")
    cloud.start()

    def made() -> list[Answer]:
        rows = cloud.admin.listSnapshots(snapshottype="HOURLY").get("snapshot", [])
        return [row for row in rows if row["state"] == "BackedUp"]

    [one] = wait_for(made, 60, "the policy's snapshot")
    assert one["id"] not in before and one["snapshottype"] == "HOURLY"
    late = cloud.admin.listEvents(type="SNAPSHOT.CREATE", level="WARN")["event"]
    assert any("is made late" in event["description"] for event in late)
    cloud.admin.deleteSnapshotPolicies(id=policy["id"])


def test_a_file_is_uploaded_as_a_volume(cloud: Cloud, content: str) -> None:
    given = cloud.admin.getUploadParamsForVolume(name="up", format="QCOW2", zoneid=zone(cloud))["getuploadparams"]
    headers = ["-H", f"X-signature: {given['signature']}", "-H", f"X-expires: {given['expires']}"]
    send = ["-F", f"file=@{origins.FILES}/disk.qcow2", *headers, "-o", "/dev/null", "-w", "%{http_code}"]
    assert curl(cloud, *send, given["postURL"]) == "200"

    def state() -> bool:
        return bool(cloud.admin.listVolumes(id=given["id"])["volume"][0]["state"] == "Uploaded")

    wait_for(state, 30, "the volume to be there")
    link = cloud.admin.extractVolume(id=given["id"], zoneid=zone(cloud), mode="HTTP_DOWNLOAD")["volume"]
    assert fetched(cloud, link["url"]) == content


def test_a_wrong_checksum_is_told_and_nothing_stays(cloud: Cloud, content: str) -> None:
    with pytest.raises(CloudStackApiException, match="checksum"):
        cloud.admin.uploadVolume(
            name="wrong",
            url=origins.url("disk.qcow2"),
            format="QCOW2",
            zoneid=zone(cloud),
            checksum="{SHA-256}" + "0" * 64,
        )
    [row] = [row for row in cloud.admin.listVolumes()["volume"] if row["name"] == "wrong"]
    assert row["state"] == "UploadError"
    warnings = cloud.admin.listEvents(type="VOLUME.UPLOAD", level="WARN")["event"]
    assert any("wrong" in event["description"] for event in warnings)
    cloud.admin.deleteVolume(id=row["id"])
    wait_for(lambda: not cloud.admin.listVolumes(id=row["id"]).get("volume"), 20, "the volume to be gone")


def test_a_tenants_file_system_goes_from_guest_to_guest(
    cloud: Cloud, tenant: CloudStack, guests: list[Answer], attached: Answer
) -> None:
    one, two = guests
    assert (attached["state"], attached["deviceid"], attached["virtualmachineid"]) == ("Ready", 1, one["id"])
    device = f"/dev/disk/by-id/virtio-{attached['id'].replace('-', '')[:20]}"
    shell(cloud, one, f"mkfs.ext4 -q {device}; echo mine >/tmp/f; debugfs -w -R 'write /tmp/f f' {device}")
    with pytest.raises(CloudStackApiException, match="attached already"):
        tenant.attachVolume(id=attached["id"], virtualmachineid=two["id"])
    grown = tenant.resizeVolume(id=attached["id"], size=2)["volume"]
    assert grown["size"] == 2 << 30
    wait_for(lambda: shell(cloud, one, "stat -c %s /dev/vdb") == str(2 << 30), 5, "the disk to have grown")
    shell(cloud, one, f"e2fsck -fp {device}; resize2fs {device}")
    assert "virtualmachineid" not in tenant.detachVolume(id=attached["id"])["volume"]
    assert shell(cloud, one, "ls /dev/disk/by-id") == ""
    # to one that is stopped: it has it when it is started
    tenant.stopVirtualMachine(id=two["id"])
    tenant.attachVolume(id=attached["id"], virtualmachineid=two["id"])
    tenant.startVirtualMachine(id=two["id"])
    assert shell(cloud, two, f"debugfs -R 'cat f' {device} 2>/dev/null") == "mine"
    assert shell(cloud, two, "dumpe2fs -h /dev/vdb 2>/dev/null | grep '^Block count'").split()[-1] == str(2 << 30 >> 12)
    tenant.rebootVirtualMachine(id=two["id"])
    assert shell(cloud, two, f"e2fsck -fn {device} 2>&1 >/dev/null | tail -n 1; readlink -f {device}").endswith(
        "/dev/vdb"
    )


def test_a_snapshot_while_a_guest_writes_is_one_moment(
    cloud: Cloud, tenant: CloudStack, guests: list[Answer], attached: Answer
) -> None:
    one = guests[0]
    # a journal: each record is written after the one before it, so none is missing before the last
    put = 'printf "%-511s\\n" $i | dd of=/dev/vdb bs=512 seek=$i conv=notrunc 2>/dev/null'
    journal = f"i=0; while :; do i=$((i+1)); {put}; done"
    shell(cloud, one, f"setsid -f sh -c '{journal}' </dev/null >/dev/null 2>&1")
    read = "head -c 8M /dev/vdb | tr -d '\\0 '"
    wait_for(
        lambda: shell(cloud, one, "dd if=/dev/vdb bs=512 skip=20 count=1 2>/dev/null").startswith("20"), 30, "writes"
    )
    snapshot = tenant.createSnapshot(volumeid=attached["id"])["snapshot"]
    assert snapshot["state"] == "BackedUp"
    with pytest.raises(CloudStackApiException, match="stop virtual machine"):
        tenant.revertSnapshot(id=snapshot["id"])
    written = shell(cloud, one, f"{read} | wc -l")
    tenant.stopVirtualMachine(id=one["id"], forced="true")
    tenant.revertSnapshot(id=snapshot["id"])
    tenant.startVirtualMachine(id=one["id"])
    records = shell(cloud, one, read).split()
    assert records == [str(number) for number in range(1, len(records) + 1)]
    assert 20 <= len(records) < int(written)
    # what is downloaded is what the guest has
    tenant.detachVolume(id=attached["id"])
    link = tenant.extractVolume(id=attached["id"], zoneid=zone(cloud), mode="HTTP_DOWNLOAD")["volume"]
    own = volumes_of(cloud) / cloud.admin.listVolumes(id=attached["id"], listall="true")["volume"][0]["path"]
    assert fetched(cloud, link["url"]) == disk(own)
    tenant.deleteSnapshot(id=snapshot["id"])


def test_a_control_plane_that_is_killed_while_it_attaches(
    cloud: Cloud, tenant: CloudStack, guests: list[Answer], attached: Answer
) -> None:
    one = guests[0]
    shell(cloud, one, "echo kept | dd of=/dev/vdb")
    seed = random.randrange(1 << 30)
    pauses = random.Random(seed)
    for attempt in range(2):
        for command in ("detachVolume", "attachVolume"):
            more = {"virtualmachineid": one["id"]} if command == "attachVolume" else {}
            job = getattr(cloud.sender, command)(id=attached["id"], **more)["jobid"]
            time.sleep(pauses.uniform(0, 0.4))
            cloud.kill()
            cloud.start()
            status = wait_for(partial(status_of, cloud, job), 60, f"{command} to end (seed {seed}, {attempt})")
            assert status == 1, f"seed {seed}, {attempt}: {command}"
            there = shell(cloud, one, "ls /dev/vdb 2>/dev/null || true")
            daemons = [pid for pid in namespaces_of(cloud.data) if "qemu" in Path(f"/proc/{pid}/cmdline").read_text()]
            assert (bool(there), len(daemons)) == ((True, 1) if more else (False, 0)), f"seed {seed}, {attempt}"
        assert shell(cloud, one, "head -c 4 /dev/vdb") == "kept"
