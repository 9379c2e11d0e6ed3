"""The demo on each hypervisor: namespaces of the machine, or virtual machines of a libvirt daemon of the demo's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests import wait
from tests.demo.world import Box, Guest, Internet, Stage
from tests.netns.controlplane.cloud import INTERNET, INTERNET_PAGE, Answer, Cloud
from tests.wait import wait_for


class NamespaceStage:
    """Routers and guests are namespaces; guests have the machine's programs."""

    title = "namespaces"
    guest: type[Guest] = Guest

    def __init__(self, directory: Path) -> None:
        self.cloud = Cloud(directory)
        self.control = self.cloud.data / "namespace/fabric/net"

    def serve(self) -> None:
        self.cloud.start()

    def connect_internet(self) -> Internet:
        self.cloud.connect_internet()
        return Internet(self.cloud.instances.command(INTERNET, []))

    def router(self, router: Answer) -> Box:
        return Box(self.cloud.instances.command(router["id"], []))


class SmallGuest(Guest):
    """A guest that has busybox and nothing else."""

    def fetch(self, url: str, header: str = "X-Demo: yes") -> str:
        limit = ["busybox", "timeout", f"{3 * wait.patience:.0f}"]
        done = self.run([*limit, "busybox", "wget", "-q", "-O", "-", "--header", header, url])
        return done.stdout if done.returncode == 0 else ""

    def connects(self, url: str) -> bool:
        place = urlsplit(url)
        port = place.port or {"http": 80, "https": 443}[place.scheme]
        limit = f"{1.5 * wait.patience:.0f}"
        # a program in place of standard input ends the connection as soon as there is one
        return self.run(["nc", "-w", limit, str(place.hostname), str(port), "-e", "/usr/bin/true"]).returncode == 0

    def resolve(self, name: str) -> str:
        return self._answer(["-type=a", name], r"^Address: (\S+)$")

    def reverse(self, address: str) -> str:
        return self._answer([address], r"\tname = (\S+)$")

    def _answer(self, question: list[str], form: str) -> str:
        found = re.search(form, self.run(["busybox", "nslookup", *question]).stdout, re.MULTILINE)
        return found[1] if found else ""

    def serve(self, page: str) -> None:
        self.run(["sh", "-c", 'mkdir -p /run/www && printf %s "$1" >/run/www/index.html', "sh", page])
        self.run(["httpd", "-p", "80", "-h", "/run/www"])
        wait_for(lambda: self.fetch("http://127.0.0.1/") == page, 5, "the web server")


class LibvirtStage:
    """Routers are virtual machines of the image, guests of the small guests' images; in emulation where KVM fails."""

    title = "virtual machines through libvirt"
    guest: type[Guest] = SmallGuest

    def __init__(self, directory: Path) -> None:
        # namespaces need none of what this imports
        from tests.conftest import PATIENCE
        from tests.vm.libvirt.cloud import VirtualCloud
        from tools.guestimage import build as guests
        from tools.image import build
        from tools.image.__main__ import FOLDER

        wait.patience = PATIENCE / 2
        guest = guests.image_of("builtin", guests.images())
        self._virtual = VirtualCloud(directory, build.image(FOLDER), guest, FOLDER.parent / "acceleration.json")
        self.cloud: Cloud = self._virtual
        self.control = self._virtual.pin

    def serve(self) -> None:
        self._virtual.open()

    def connect_internet(self) -> Internet:
        self._virtual.connect_uplink()
        internet = Internet(self._virtual.outside())
        internet.serve(INTERNET_PAGE)
        return internet

    def router(self, router: Answer) -> Box:
        return Box(self._virtual.in_appliance(router["linklocalip"], []))


#: by the hypervisor's name, as ``gatehouse serve`` takes it
STAGES: dict[str, Callable[[Path], Stage]] = {"namespace": NamespaceStage, "libvirt": LibvirtStage}
