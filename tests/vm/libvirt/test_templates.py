"""A template through an SSVM that is a virtual machine, and a guest that boots from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.run import run
from tests.netns.controlplane.cloud import WEB
from tests.vm.libvirt.cloud import VirtualCloud, virtual_cloud
from tests.wait import wait_for

ORIGIN = Path(__file__).parents[2] / "origin.py"
PORT = 8000


@pytest.fixture(scope="module")
def cloud(image: Path, guest_image: Path, acceleration: Path) -> Iterator[VirtualCloud]:
    with virtual_cloud(image, guest_image, acceleration) as made:
        yield made


def test_a_guest_boots_from_a_template_that_was_downloaded(cloud: VirtualCloud, guest_image: Path) -> None:
    api = cloud.admin
    api.updateConfiguration(name="secstorage.loadscan.interval", value="500")
    zone = api.listZones()["zone"][0]["id"]
    api.addImageStore(provider="Local", zoneid=zone)

    def running() -> bool:
        there = api.listSystemVms(systemvmtype="secondarystoragevm").get("systemvm", [])
        return [one["state"] for one in there] == ["Running"]

    wait_for(running, 400, "the secondary storage VM")
    cloud.plug_outside()
    files = cloud.directory / "files"
    files.mkdir()
    # another format than primary storage keeps
    run(["qemu-img", "convert", "-O", "vmdk", str(guest_image), str(files / "guest.vmdk")], timeout=120)
    server = subprocess.Popen([*cloud.outside(), sys.executable, str(ORIGIN), str(files), str(PORT)])
    try:
        given = {"format": "VMDK", "hypervisor": "KVM", "zoneid": zone, "displaytext": "small"}
        made = api.registerTemplate(name="small", url=f"http://{WEB}:{PORT}/guest.vmdk", **given)["template"]
        id = made[0]["id"]

        def shown() -> dict[str, object]:
            found: dict[str, object] = api.listTemplates(templatefilter="self", id=id)["template"][0]
            assert found["downloadstate"] != "DOWNLOAD_ERROR", found
            return found

        wait_for(lambda: shown()["isready"], 300, "the template")
    finally:
        server.kill()
        server.wait()
    vm = cloud.deploy(api, "vm1", cloud.network(api, "net"), templateid=id)
    assert cloud.sh(vm["id"], "hostname").returncode == 0
    assert (cloud.storage / "templates" / f"{id}.qcow2").is_file()
    assert not [path for path in (cloud.storage / "images/exchange").iterdir() if path.is_file()]
    # who serves it has no part in what guests run from: the SSVM sees neither templates nor disks
    api.deleteTemplate(id=id)
    assert cloud.sh(vm["id"], "true").returncode == 0
