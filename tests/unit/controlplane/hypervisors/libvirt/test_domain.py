from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from controlplane.hypervisors.base import GuestDisk, Share
from controlplane.hypervisors.libvirt.domain import (
    Machine,
    Port,
    clipboard_xml,
    domain_uuid,
    domain_xml,
    fstab,
    port_xml,
)

GOLDEN = Path(__file__).parent / "golden"
PORT = Port("02:00:00:00:00:01", "gh0123456789ab", "brfedcba987654", 1450)
ROUTER = Machine(
    id="6f0b0e0e-6d0a-4c57-9d4e-1c2f8a1b7e11",
    owner="0123456789abcdef",
    accelerator="qemu",
    cpus=1,
    memory_mb=256,
    disks=(GuestDisk(Path("/s/i/disk.qcow2"), 0), GuestDisk(Path("/s/i/state.qcow2"), 1, "gatehouse-state")),
    ports=(PORT, Port("0e:01:a9:fe:01:01", "ghaaaaaaaaaaaa", "brbbbbbbbbbbbb", isolated=True)),
    serial_log=Path("/s/i/serial.log"),
    password="s3cr3t00",
    screen="169.254.0.1",
    firmware={"opt/io.systemd.credentials/gatehouse.key.pem": Path("/s/i/identity/key.pem")},
)


def test_a_router() -> None:
    assert domain_xml(ROUTER) == (GOLDEN / "router.xml").read_text()


def test_a_guest_with_kvm_has_the_hosts_processor_and_no_firmware_entries() -> None:
    guest = Machine(
        id="g-1",
        owner="o",
        accelerator="kvm",
        cpus=2,
        memory_mb=512,
        disks=(GuestDisk(Path("/d"), 0),),
        ports=(),
        serial_log=Path("/l"),
        password="p",
    )
    domain = ElementTree.fromstring(domain_xml(guest))
    assert domain.get("type") == "kvm"
    cpu = domain.find("cpu")
    assert cpu is not None and cpu.attrib == {"mode": "host-passthrough"} and len(cpu) == 0
    assert domain.find("sysinfo") is None
    assert (domain.findtext("vcpu"), domain.findtext("memory")) == ("2", "512")


def test_a_port_by_itself_is_as_in_the_domain() -> None:
    interface = ElementTree.fromstring(domain_xml(ROUTER)).find("devices/interface")
    assert interface is not None
    alone = ElementTree.fromstring(port_xml(PORT))
    assert [(item.tag, item.attrib) for item in alone] == [(item.tag, item.attrib) for item in interface]


def test_the_clipboard_is_for_guests_and_plugged_in_as_it_was() -> None:
    guest = ElementTree.fromstring(domain_xml(replace(ROUTER, clipboard=True)))
    [channel] = guest.findall("devices/channel[@type='qemu-vdagent']")
    assert [(item.tag, item.attrib) for item in channel.iter()] == [
        ("channel", {"type": "qemu-vdagent"}),
        ("source", {}),
        ("clipboard", {"copypaste": "yes"}),
        ("mouse", {"mode": "server"}),
        ("target", {"type": "virtio", "name": "com.redhat.spice.0"}),
    ]
    alone = ElementTree.fromstring(clipboard_xml())
    assert [(item.tag, item.attrib) for item in alone.iter()] == [(item.tag, item.attrib) for item in channel.iter()]
    assert ElementTree.fromstring(domain_xml(ROUTER)).find("devices/channel[@type='qemu-vdagent']") is None


def test_the_password_is_not_shown_by_accident() -> None:
    assert "s3cr3t00" not in repr(ROUTER)


@pytest.mark.parametrize("text", ["&<>\"'", "a b"])
def test_what_is_written_into_it_cannot_break_out(text: str) -> None:
    machine = Machine(
        id="g-1",
        owner=text,
        accelerator="qemu",
        cpus=1,
        memory_mb=1,
        disks=(GuestDisk(Path(f"/{text}"), 0),),
        ports=(),
        serial_log=Path("/l"),
        password=text,
    )
    domain = ElementTree.fromstring(domain_xml(machine))
    source, graphics = domain.find("devices/disk/source"), domain.find("devices/graphics")
    assert source is not None and source.get("file") == f"/{text}"
    assert graphics is not None and graphics.get("passwd") == text


def test_uuids_are_the_instances_own_where_they_are_uuids() -> None:
    own = str(uuid.uuid4())
    assert domain_uuid(own) == own
    assert domain_uuid("r-5") == domain_uuid("r-5") != domain_uuid("r-6")


def test_directories_of_the_host_are_mounted_by_their_tags_before_the_agent_starts() -> None:
    shares = (Share("exchange", "/s/images/exchange"), Share("one", "/srv/one"))
    found = ElementTree.fromstring(domain_xml(replace(ROUTER, shares=shares))).findall("devices/filesystem")
    directories = {(each.find("source"), each.find("target")) for each in found}
    tags = {
        target.get("dir"): source.get("dir")
        for source, target in directories
        if source is not None and target is not None
    }
    assert {each.get("accessmode") for each in found} == {"mapped"}
    for line, share in zip(fstab(shares).splitlines(), shares, strict=True):
        tag, where, kind, options, *_ = line.split(" ")
        assert (tags[tag], where, kind) == (share.source, f"/var/lib/gatehouse/stores/{share.name}", "9p")
        assert "x-systemd.before=gatehouse-agent.service" in options.split(",")
