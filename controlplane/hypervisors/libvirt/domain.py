"""The libvirt domain of an instance. Pure: a Machine in, XML out (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from controlplane.hypervisors.base import SHARES, GuestDisk, Share

#: the namespace of what we note in a domain: which data directory it is of
METADATA = "urn:gatehouse:instance:1"
GUEST_AGENT = "org.qemu.guest_agent.0"
#: port of spice-vdagent in a guest, by which QEMU joins the guest's clipboard to that of its VNC server
CLIPBOARD_AGENT = "com.redhat.spice.0"
#: bytes that VNC's authentication takes of a password (RFC 6143, 7.2.2)
VNC_PASSWORD = 8

#: KVM gives the host's processor, emulation all that it can
_CPU = {"kvm": {"mode": "host-passthrough"}, "qemu": {"mode": "maximum"}}


@dataclass(frozen=True)
class Port:
    """A NIC: the guest's MAC, the tap's name on the host and the bridge that it is in."""

    mac: str
    name: str
    bridge: str
    mtu: int = 1500
    #: reaches the host and its uplinks only, no other isolated port (bridge(8))
    isolated: bool = False


@dataclass(frozen=True)
class Machine:
    """All that a domain is made of. ``firmware`` maps names of fw_cfg entries to files; ``password`` is VNC's."""

    id: str
    owner: str
    accelerator: Literal["kvm", "qemu"]
    cpus: int
    memory_mb: int
    disks: tuple[GuestDisk, ...]
    ports: tuple[Port, ...]
    serial_log: Path
    password: str = field(repr=False)
    #: address of the host that the VNC server listens on
    screen: str = "127.0.0.1"
    #: text may be copied between the guest and its screen's viewers, where the guest runs spice-vdagent
    clipboard: bool = False
    firmware: Mapping[str, Path] = field(default_factory=dict)
    shares: tuple[Share, ...] = ()


def domain_uuid(instance_id: str) -> str:
    """The instance's own id where that is a UUID, as routers' and guests' are, else one made from it."""
    try:
        return str(uuid.UUID(instance_id))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, instance_id))


def domain_xml(machine: Machine) -> str:
    """A domain that ends when its guest powers off and begins again when it reboots. Holds the VNC password."""
    domain = Element("domain", type=machine.accelerator)
    _texts(domain, name=machine.id, uuid=domain_uuid(machine.id))
    SubElement(SubElement(domain, "metadata"), f"{{{METADATA}}}instance", owner=machine.owner)
    SubElement(domain, "memory", unit="MiB").text = str(machine.memory_mb)
    SubElement(domain, "vcpu").text = str(machine.cpus)
    _boot(domain, machine)
    features = SubElement(domain, "features")
    for name in ("acpi", "apic"):
        SubElement(features, name)
    SubElement(domain, "cpu", _CPU[machine.accelerator])
    SubElement(domain, "clock", offset="utc")
    _texts(domain, on_poweroff="destroy", on_reboot="restart", on_crash="destroy")
    _devices(SubElement(domain, "devices"), machine)
    indent(domain)
    return tostring(domain, encoding="unicode") + "\n"


def fstab(shares: Sequence[Share]) -> str:
    """Lines of fstab(5) by which the appliance mounts what ``Machine.shares`` gives it (9P over virtio)."""
    options = (
        "trans=virtio,version=9p2000.L,msize=524288,cache=none,nosuid,nodev,noexec,nofail,"
        # what it runs would be in the directory below
        "x-systemd.before=gatehouse-agent.service"
    )
    lines = (f"{_tag(number)} {SHARES}/{share.name} 9p {options} 0 0\n" for number, share in enumerate(shares))
    return "".join(lines)


def _tag(number: int) -> str:
    # a tag has at most 31 octets
    return f"share{number}"


def port_xml(port: Port) -> str:
    """A NIC by itself, for plugging it into a domain that runs."""
    interface = Element("interface", type="bridge")
    _interface(interface, port)
    indent(interface)
    return tostring(interface, encoding="unicode")


def disk_xml(disk: GuestDisk) -> str:
    """A disk by itself, for plugging it into a domain that runs."""
    element = Element("disk", type="file", device="disk")
    _disk(element, disk)
    indent(element)
    return tostring(element, encoding="unicode")


def backup_xml(targets: Iterable[str], wanted: str, file: Path) -> str:
    """A copy of disk ``wanted`` alone to ``file`` (https://libvirt.org/formatbackup.html)."""
    backup = Element("domainbackup", mode="push")
    disks = SubElement(backup, "disks")
    for target in targets:
        if target != wanted:
            SubElement(disks, "disk", name=target, backup="no")
            continue
        disk = SubElement(disks, "disk", name=target, backup="yes", type="file")
        SubElement(disk, "driver", type="qcow2")
        SubElement(disk, "target", file=str(file))
    return tostring(backup, encoding="unicode")


def clipboard_xml() -> str:
    """The clipboard's channel by itself, for plugging it into a domain that runs."""
    channel = Element("channel", type="qemu-vdagent")
    _clipboard(channel)
    return tostring(channel, encoding="unicode")


def _boot(domain: Element, machine: Machine) -> None:
    if machine.firmware:
        # systemd.system-credentials(7): nothing of it is on a command line, only the files' names
        sysinfo = SubElement(domain, "sysinfo", type="fwcfg")
        for name, path in sorted(machine.firmware.items()):
            SubElement(sysinfo, "entry", name=name, file=str(path))
    os = SubElement(domain, "os")
    SubElement(os, "type", arch="x86_64", machine="pc").text = "hvm"
    SubElement(os, "boot", dev="hd")


def _devices(devices: Element, machine: Machine) -> None:
    for disk in machine.disks:
        _disk(SubElement(devices, "disk", type="file", device="disk"), disk)
    for number, share in enumerate(machine.shares):
        # owners and modes are kept beside the files: QEMU's user owns them all
        element = SubElement(devices, "filesystem", type="mount", accessmode="mapped")
        SubElement(element, "source", dir=share.source)
        SubElement(element, "target", dir=_tag(number))
    for port in machine.ports:
        _interface(SubElement(devices, "interface", type="bridge"), port)
    serial = SubElement(devices, "serial", type="file")
    SubElement(serial, "source", path=str(machine.serial_log), append="on")
    SubElement(serial, "target", port="0")
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "target", type="virtio", name=GUEST_AGENT)
    if machine.clipboard:
        _clipboard(SubElement(devices, "channel", type="qemu-vdagent"))
    SubElement(
        devices, "graphics", type="vnc", port="-1", autoport="yes", listen=machine.screen, passwd=machine.password
    )
    video = SubElement(devices, "video")
    SubElement(video, "model", type="vga")
    SubElement(devices, "input", type="tablet", bus="usb")
    SubElement(devices, "watchdog", model="i6300esb", action="reset")
    rng = SubElement(devices, "rng", model="virtio")
    SubElement(rng, "backend", model="random").text = "/dev/urandom"
    SubElement(devices, "memballoon", model="virtio")


def _disk(element: Element, disk: GuestDisk) -> None:
    SubElement(element, "driver", name="qemu", type="qcow2", discard="unmap")
    SubElement(element, "source", file=str(disk.path))
    SubElement(element, "target", dev=disk.name, bus="virtio")
    if disk.serial:
        SubElement(element, "serial").text = disk.serial


def _clipboard(channel: Element) -> None:
    source = SubElement(channel, "source")
    SubElement(source, "clipboard", copypaste="yes")
    # the pointer stays with the tablet
    SubElement(source, "mouse", mode="server")
    SubElement(channel, "target", type="virtio", name=CLIPBOARD_AGENT)


def _interface(element: Element, port: Port) -> None:
    SubElement(element, "mac", address=port.mac)
    SubElement(element, "source", bridge=port.bridge)
    SubElement(element, "target", dev=port.name)
    SubElement(element, "model", type="virtio")
    SubElement(element, "mtu", size=str(port.mtu))
    if port.isolated:
        SubElement(element, "port", isolated="yes")
    # the network card's own boot program would only delay a start
    SubElement(element, "rom", enabled="no")


def _texts(parent: Element, **texts: str) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = text
