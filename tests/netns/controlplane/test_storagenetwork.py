"""The storage network: image stores are reached by it alone, from secondary-storage VMs that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cs import CloudStackApiException

from controlplane.convergence.intent.rows import storage_segment
from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import Answer, Cloud
from tests.netns.controlplane.storing import ssvms, storing, zone
from tests.netns.lab import Lab, Machine
from tests.netns.ssvm.swift import CONTAINER, KEY, PORT, USER, Swift
from tests.wait import wait_for

STORAGE, MAC = "storage", "02:00:5e:00:53:09"
#: the range's gateway, and a server behind it
GATEWAY, SERVER = "10.88.0.1", "10.77.0.5"
RANGE = {"startip": "10.88.0.10", "endip": "10.88.0.12", "gateway": GATEWAY, "netmask": "255.255.255.0"}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with storing("own") as made:
        yield made


@pytest.fixture(scope="module")
def storage(cloud: Cloud) -> Answer:
    """The range, with a machine on its segment that has Swift and is on no other."""
    pod = cloud.admin.listPods()["pod"][0]["id"]
    made: Answer = cloud.admin.createStorageNetworkIpRange(podid=pod, vlan="88", **RANGE)["storagenetworkiprange"]
    cloud.place(STORAGE, storage_segment(made["networkid"], made["vlan"]), MAC, [f"{GATEWAY}/24", f"{SERVER}/32"])
    return made


@pytest.fixture(scope="module")
def swift(cloud: Cloud, storage: Answer) -> Swift:
    lab = cast(Lab, SimpleNamespace(hypervisor=cloud.instances, patience=1))
    return Swift(Machine(lab, STORAGE, MAC), SERVER)


def ssvm(cloud: Cloud) -> str:
    [one] = ssvms(cloud, "Running")
    return str(one["id"])


def addresses(cloud: Cloud, name: str) -> list[str]:
    """Addresses of a NIC of the SSVM."""
    words = cloud.run(ssvm(cloud), ["ip", "-4", "-o", "address", "show", "dev", name], check=False).stdout.split()
    return [words[index + 1] for index, word in enumerate(words) if word == "inet"]


def sent(cloud: Cloud, name: str) -> int:
    """Bytes that a NIC of the SSVM sent."""
    return int(cloud.run(ssvm(cloud), ["cat", f"/sys/class/net/{name}/statistics/tx_bytes"]).stdout)


def test_an_ssvm_that_runs_gets_its_place(cloud: Cloud, storage: Answer) -> None:
    before = ssvm(cloud)
    wait_for(lambda: addresses(cloud, "eth2") == ["10.88.0.10/24"], 30, "the address of the storage network")
    assert ssvm(cloud) == before
    assert cloud.admin.listStorageNetworkIpRange(zoneid=zone(cloud))["storagenetworkiprange"] == [storage]
    assert storage["vlan"] == "vlan://88"


def test_images_go_by_it_to_a_server_behind_its_gateway(cloud: Cloud, swift: Swift) -> None:
    api = cloud.admin
    wait_for(lambda: addresses(cloud, "eth2"), 30, "the address of the storage network")
    keys = {"accesskey": USER, "secretkey": KEY, "bucket": CONTAINER}
    api.addImageStoreS3(endpoint=f"http://{SERVER}:{PORT}", **keys)
    route = ["ip", "route", "get", SERVER]
    way = f"via {GATEWAY} dev eth2 src 10.88.0.10"
    wait_for(lambda: way in cloud.run(ssvm(cloud), route, check=False).stdout, 30, "the route")
    before = {name: sent(cloud, name) for name in ("eth0", "eth1", "eth2")}
    origins.image(cloud, "stored.qcow2")
    given = {"format": "QCOW2", "hypervisor": "KVM", "zoneid": zone(cloud), "displaytext": "stored"}
    id = api.registerTemplate(name="stored", url=origins.url("stored.qcow2"), **given)["template"][0]["id"]

    def ready() -> bool:
        found: dict[str, Any] = api.listTemplates(templatefilter="self", id=id)["template"][0]
        assert found["downloadstate"] != "DOWNLOAD_ERROR", found
        return bool(found["isready"])

    wait_for(ready, 90, "the template")
    [name] = [name for name in swift.names() if id in name]
    swift.fetch(name, "/root/fetched")
    size = int(cloud.run(STORAGE, ["stat", "-c", "%s", "/root/fetched"]).stdout)
    assert sent(cloud, "eth2") - before["eth2"] > size
    assert sent(cloud, "eth0") - before["eth0"] < size + 100_000, "not by the control network"


def test_its_rate_is_a_setting(cloud: Cloud, storage: Answer) -> None:
    def limited() -> bool:
        shown = cloud.run(ssvm(cloud), ["tc", "qdisc", "show", "dev", "eth2"]).stdout
        rates = [int(rate) for rate in re.findall(r"^qdisc tbf .* rate (\d+)Kbit", shown, re.MULTILINE)]
        # of frames, so a little more than that of packets
        return len(rates) == 1 and 200_000 <= rates[0] < 205_000

    wait_for(lambda: addresses(cloud, "eth2"), 30, "the address of the storage network")
    assert not limited()
    cloud.admin.updateConfiguration(name="secstorage.storage.network.rate", value="200", zoneid=zone(cloud))
    wait_for(limited, 30, "the rate")


def test_the_next_ssvm_begins_with_it(cloud: Cloud, storage: Answer) -> None:
    wait_for(lambda: addresses(cloud, "eth2"), 30, "the address of the storage network")
    before = ssvm(cloud)
    cloud.admin.destroySystemVm(id=before)
    wait_for(lambda: [one for one in ssvms(cloud, "Running") if one["id"] != before], 60, "another SSVM")
    # that of the one before may not be free yet
    wait_for(lambda: addresses(cloud, "eth2") in (["10.88.0.10/24"], ["10.88.0.11/24"]), 30, "its address")


def test_a_range_that_is_in_use_keeps_its_addresses_and_can_go(cloud: Cloud, storage: Answer) -> None:
    wait_for(lambda: addresses(cloud, "eth2"), 30, "the address of the storage network")
    with pytest.raises(CloudStackApiException) as refused:
        cloud.admin.updateStorageNetworkIpRange(id=storage["id"], startip="10.88.0.12")
    assert "is in use by s-" in str(refused.value)
    wider = cloud.admin.updateStorageNetworkIpRange(id=storage["id"], endip="10.88.0.40")["storagenetworkiprange"]
    assert wider["endip"] == "10.88.0.40"
    cloud.admin.deleteStorageNetworkIpRange(id=storage["id"])
    wait_for(lambda: addresses(cloud, "eth2") == [], 30, "the address to go")
    assert cloud.admin.listStorageNetworkIpRange() == {}
