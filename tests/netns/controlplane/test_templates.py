"""Templates through the API: a real origin, a real SSVM, and the files that are there in the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import Cloud
from tests.wait import wait_for

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-cloud-"))
    made = Cloud(directory)
    try:
        made.start()
        made.connect_internet()
        origins.serve(made)
        # what tests wait for is looked at often
        made.admin.updateConfiguration(name="secstorage.loadscan.interval", value="200")
        made.admin.addImageStore(provider="Local", name="primary", zoneid=zone(made))
        wait_for(lambda: ssvms(made, "Running"), 60, "the secondary storage VM")
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)


def zone(cloud: Cloud) -> str:
    id: str = cloud.admin.listZones()["zone"][0]["id"]
    return id


def ssvms(cloud: Cloud, state: str | None = None) -> list[Answer]:
    found = cloud.admin.listSystemVms(systemvmtype="secondarystoragevm").get("systemvm", [])
    return [one for one in found if state in (None, one["state"])]


def register(cloud: Cloud, api: CloudStack, name: str, url: str, **more: Any) -> str:
    given = {"format": "QCOW2", "hypervisor": "KVM", "zoneid": zone(cloud), "displaytext": name} | more
    id: str = api.registerTemplate(name=name, url=url, **given)["template"][0]["id"]
    return id


def template(api: CloudStack, id: str) -> Answer:
    [found] = api.listTemplates(templatefilter="self", id=id)["template"]
    shown: Answer = found
    return shown


def ready(api: CloudStack, id: str, timeout: float = 60) -> Answer:
    def there() -> Answer | None:
        found = template(api, id)
        assert found["downloadstate"] != "DOWNLOAD_ERROR", found
        return found if found["isready"] else None

    found = wait_for(there, timeout, "the template")
    assert found is not None
    return found


def failed(api: CloudStack, id: str, timeout: float = 60) -> str:
    def over() -> str:
        found = template(api, id)
        assert not found["isready"], found
        return str(found["status"]) if found["downloadstate"] == "DOWNLOAD_ERROR" else ""

    return wait_for(over, timeout, "the failure") or ""


def stored(cloud: Cloud) -> list[Path]:
    """Objects of the zone's local store, without parts."""
    store = Path(cloud.admin.listImageStores(name="primary")["imagestore"][0]["url"].removeprefix("file://"))
    return [path for path in store.rglob("*") if path.is_file() and ".parts" not in path.parts]


def test_a_registered_template_is_downloaded_checked_and_shown(cloud: Cloud) -> None:
    digest = origins.image(cloud, "small.qcow2")
    alice = cloud.tenant("alice")
    id = register(cloud, alice, "small", origins.url("small.qcow2"), checksum=f"{{SHA-256}}{digest}")
    first = template(alice, id)
    assert (first["isready"], first["format"], first["account"]) == (False, "QCOW2", "alice")
    shown = ready(alice, id)
    assert (shown["status"], shown["downloadpercent"], shown["size"]) == ("Download Complete", 100, 16 << 20)
    assert shown["checksum"] == f"{{SHA-256}}{digest}"
    [path] = [path for path in stored(cloud) if id in path.parts]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert shown["physicalsize"] == path.stat().st_size
    types = {event["type"] for event in alice.listEvents()["event"]}
    assert {"TEMPLATE.CREATE", "TEMPLATE.DOWNLOAD.START", "TEMPLATE.DOWNLOAD.SUCCESS"} <= types
    [store] = cloud.admin.listImageStores(name="primary")["imagestore"]
    assert store["healthy"] and 0 < store["disksizeused"] < store["disksizetotal"]
    # guests of this hypervisor boot no image, and it says so
    with pytest.raises(CloudStackApiException) as told:
        cloud.deploy(alice, "vm", cloud.network(alice, "net"), templateid=id)
    assert "libvirt" in json.dumps(told.value.error)
    # gone from the store, and from lists
    alice.deleteTemplate(id=id)
    assert alice.listTemplates(templatefilter="self").get("template", []) == []
    wait_for(lambda: not path.exists(), 30, "the file to be deleted")
