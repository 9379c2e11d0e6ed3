"""Templates through the API: a real origin, a real SSVM, and the files that are there in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.netns.controlplane.storing import curl, ssvms, storing, zone
from tests.wait import wait_for


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with storing("primary") as made:
        yield made


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


def refused(call: Any, **params: Any) -> str:
    """What an API call says that does not do it."""
    with pytest.raises(CloudStackApiException) as told:
        call(**params)
    text: str = told.value.error["errortext"]
    return text


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?status=404", "404"),
        ("?to=http://127.0.0.1/", "not public"),
        ("?to=http://169.254.169.254/latest/meta-data", "not public"),
        ("?to=http://10.1.1.1/", "not public"),
    ],
)
def test_what_cannot_be_had_says_why(cloud: Cloud, query: str, says: str) -> None:
    id = register(cloud, cloud.admin, "bad", origins.url(f"small.qcow2{query}"))
    assert says in failed(cloud.admin, id)
    assert cloud.events("TEMPLATE.DOWNLOAD.FAILED")
    cloud.admin.deleteTemplate(id=id)


def test_another_file_than_was_promised_is_no_template(cloud: Cloud) -> None:
    origins.image(cloud, "other.qcow2")
    wrong = register(cloud, cloud.admin, "wrong", origins.url("other.qcow2"), checksum="{SHA-256}" + "0" * 64)
    raw = register(cloud, cloud.admin, "raw", origins.url("other.qcow2"), format="VMDK")
    assert "checksum" in failed(cloud.admin, wrong)
    assert failed(cloud.admin, raw)
    cloud.admin.updateConfiguration(name="max.template.iso.size", value="1")
    origins.image(cloud, "large.qcow2", size="3G", filled="1M")
    large = register(cloud, cloud.admin, "large", origins.url("large.qcow2"))
    assert ready(cloud.admin, large)["size"] == 3 << 30
    for id in (wrong, raw, large):
        cloud.admin.deleteTemplate(id=id)


def test_a_broken_download_goes_on_at_another_ssvm(cloud: Cloud) -> None:
    digest = origins.image(cloud, "slow.qcow2", size="64M", filled="48M")
    id = register(cloud, cloud.admin, "slow", origins.url("slow.qcow2?drop=3000000"), checksum=f"{{SHA-256}}{digest}")
    wait_for(lambda: template(cloud.admin, id)["downloadpercent"] > 0, 60, "the download to begin")
    [before] = ssvms(cloud)
    cloud.admin.destroySystemVm(id=before["id"])
    shown = ready(cloud.admin, id, 120)
    assert shown["checksum"] == f"{{SHA-256}}{digest}"
    assert [one["id"] for one in ssvms(cloud)] != [before["id"]]
    assert any("connection was lost" in text for text in cloud.events("TEMPLATE.DOWNLOAD.LOST"))
    [path] = [path for path in stored(cloud) if id in path.parts]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    cloud.admin.deleteTemplate(id=id)


def test_a_link_hands_the_file_out_until_it_expires(cloud: Cloud) -> None:
    digest = origins.image(cloud, "out.qcow2")
    id = register(cloud, cloud.admin, "out", origins.url("out.qcow2"))
    ready(cloud.admin, id)
    made = cloud.admin.extractTemplate(id=id, mode="HTTP_DOWNLOAD", zoneid=zone(cloud))["template"]
    assert (made["state"], made["extractMode"]) == ("DOWNLOAD_URL_CREATED", "HTTP_DOWNLOAD")
    curl(cloud, "-o", "/root/out", made["url"])
    assert cloud.run(INTERNET, ["sha256sum", "/root/out"]).stdout.split()[0] == digest
    status = curl(cloud, "-r", "10-19", "-o", "/root/part", "-w", "%{http_code} %{size_download}", made["url"])
    assert status == "206 10"
    other = made["url"].replace(made["url"].split("/")[4], "x" * 43)
    assert curl(cloud, "-o", "/dev/null", "-w", "%{http_code}", other) in ("403", "404")
    token = made["url"].split("/")[4]
    assert token not in cloud.text_log()
    assert token.encode() not in (cloud.data / "gatehouse.db").read_bytes()
    # with the template goes the link
    cloud.admin.deleteTemplate(id=id)
    gone = ("403", "404")
    wait_for(
        lambda: curl(cloud, "-o", "/dev/null", "-w", "%{http_code}", made["url"]) in gone, 30, "the link to be refused"
    )


def test_a_file_is_uploaded_once(cloud: Cloud) -> None:
    digest = origins.image(cloud, "up.qcow2")
    asked = {"format": "QCOW2", "hypervisor": "KVM", "zoneid": zone(cloud), "displaytext": "up", "name": "up"}
    cloud.admin.updateConfiguration(name="secstorage.origins", value="https://cloud.example.com")
    given = cloud.admin.getUploadParamsForTemplate(**asked)["getuploadparams"]
    headers = [
        *("-H", f"X-signature: {given['signature']}"),
        *("-H", f"X-metadata: {given['metadata']}"),
        *("-H", f"X-expires: {given['expires']}"),
    ]
    send = ["-F", f"file=@{origins.FILES}/up.qcow2", *headers, "-o", "/dev/null", "-w", "%{http_code}"]
    forged = [part.replace(given["signature"], "x" * 43) for part in send]
    assert curl(cloud, *forged, given["postURL"]) == "403"
    foreign = curl(cloud, *send, "-H", "Origin: https://evil.example", given["postURL"])
    assert foreign == "403"
    seen = curl(cloud, *send, "-D", "/root/headers", "-H", "Origin: https://cloud.example.com", given["postURL"])
    assert seen == "200"
    allowed = cloud.run(INTERNET, ["cat", "/root/headers"]).stdout.lower()
    assert "access-control-allow-origin: https://cloud.example.com" in allowed
    assert ready(cloud.admin, given["id"])["checksum"] == f"{{SHA-256}}{digest}"
    assert curl(cloud, *send, given["postURL"]) == "403"
    assert given["signature"] not in cloud.text_log()
    assert cloud.events("TEMPLATE.UPLOAD.SUCCESS")
    cloud.admin.deleteTemplate(id=given["id"])


def test_a_control_plane_that_was_killed_goes_on_with_what_is_left(cloud: Cloud) -> None:
    origins.image(cloud, "kept.qcow2", size="32M", filled="24M")
    id = register(cloud, cloud.admin, "kept", origins.url("kept.qcow2?drop=2000000"))
    cloud.kill()
    cloud.start()
    assert ready(cloud.admin, id, 120)["size"] == 32 << 20
    cloud.admin.deleteTemplate(id=id)


def test_more_jobs_than_one_ssvm_takes_get_another_one(cloud: Cloud) -> None:
    origins.image(cloud, "stalls.qcow2")
    for name, value in (("secstorage.session.max", "2"), ("secstorage.capacity.standby", "1")):
        cloud.admin.updateConfiguration(name=name, value=value)
    ids = [register(cloud, cloud.admin, f"s{n}", origins.url(f"stalls.qcow2?stall=1000&n={n}")) for n in range(3)]
    try:
        wait_for(lambda: len(ssvms(cloud, "Running")) >= 2, 90, "a second secondary storage VM")
        wait_for(
            lambda: all(template(cloud.admin, id)["downloadstate"] == "DOWNLOAD_IN_PROGRESS" for id in ids),
            60,
            "all to be worked on",
        )
    finally:
        for id in ids:
            cloud.admin.deleteTemplate(id=id)
