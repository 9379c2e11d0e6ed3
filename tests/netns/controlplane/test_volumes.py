"""Volumes and snapshots through the API and a real SSVM: what is in the files in the end."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cs import CloudStackApiException

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.netns.controlplane.storing import curl, storing, zone
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
    # its file is made before the namespace hypervisor says that its guests have no disks
    with pytest.raises(CloudStackApiException, match="guests of the namespace hypervisor have no disks"):
        cloud.admin.attachVolume(id=made["id"], virtualmachineid=vm["id"])
    [shown] = cloud.admin.listVolumes(id=made["id"])["volume"]
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
