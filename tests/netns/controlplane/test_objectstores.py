"""Templates in S3 and Swift through the API: a real Swift on the internet, which has both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cs import CloudStackApiException

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, WEB, Cloud
from tests.netns.controlplane.storing import storing
from tests.netns.lab import Lab, Machine
from tests.netns.ssvm.swift import ACCOUNT, CONTAINER, KEY, PORT, USER, Swift
from tests.wait import wait_for


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with storing() as made:
        yield made


@pytest.fixture(scope="module")
def swift(cloud: Cloud) -> Swift:
    lab = cast(Lab, SimpleNamespace(hypervisor=cloud.instances, patience=1))
    return Swift(Machine(lab, INTERNET, "02:00:5e:00:53:01"), WEB)


@pytest.mark.parametrize("kind", ["S3", "Swift"])
def test_templates_are_kept_there_and_handed_out(cloud: Cloud, swift: Swift, kind: str) -> None:
    api = cloud.admin
    if kind == "S3":
        keys = {"accesskey": USER, "secretkey": KEY, "bucket": CONTAINER}
        store = api.addImageStoreS3(endpoint=f"http://{WEB}:{PORT}", **keys)["imagestore"]
    else:
        user = USER.split(":")
        details = {"account": user[0], "username": user[1], "key": KEY, "container": CONTAINER}
        given = [{name: value} for name, value in details.items()]
        store = api.addImageStore(provider="Swift", url=f"http://{WEB}:{PORT}/auth/v1.0", details=given)["imagestore"]
    assert store["scope"] == "REGION" and KEY not in json.dumps({**store, "url": ""})
    digest = origins.image(cloud, f"{kind}.qcow2")
    zone = api.listZones()["zone"][0]["id"]
    more = {"format": "QCOW2", "hypervisor": "KVM", "zoneid": zone, "displaytext": kind}
    id = api.registerTemplate(name=kind, url=origins.url(f"{kind}.qcow2"), **more)["template"][0]["id"]

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = api.listTemplates(templatefilter="self", id=id)["template"][0]
        assert found["downloadstate"] != "DOWNLOAD_ERROR", found
        return found

    wait_for(lambda: shown()["isready"], 90, "the template")
    assert shown()["checksum"] == f"{{SHA-256}}{digest}"
    [name] = [name for name in swift.names() if id in name]
    swift.fetch(name, "/root/fetched")
    assert cloud.run(INTERNET, ["sha256sum", "/root/fetched"]).stdout.split()[0] == digest
    api.deleteTemplate(id=id)
    wait_for(lambda: not [name for name in swift.names() if id in name], 30, "the object to be deleted")
    wait_for(lambda: _removed(cloud, store["id"]), 30, "the store to be let go")
    assert KEY.encode() not in (cloud.data / "gatehouse.db").read_bytes()
    assert not [line for line in cloud.text_log().splitlines() if KEY in line.replace(ACCOUNT, "")]


def _removed(cloud: Cloud, id: str) -> bool:
    """Whether the store could be removed: nothing works on it any more."""
    try:
        cloud.admin.deleteImageStore(id=id)
    except CloudStackApiException:
        return False
    return not cloud.admin.listImageStores().get("imagestore", [])
