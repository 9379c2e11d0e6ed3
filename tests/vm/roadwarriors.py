"""Devices with the kernel's IPsec, in one User-Mode Linux machine.

They are people's with L2TP, set up as NetworkManager-l2tp does it, and gateways of sites.

The machine has one NIC on a segment of the lab; each device is a network namespace of it, with an address on that
segment or behind a NAT that is there too. Programs are this machine's, over hostfs: what they write below /etc and /run
stays in the machine. Commands go in as files of a folder that the machine watches, and their ends come out so.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from controlplane.hypervisors.base import Nic
from tests.netns.lab import Lab
from tests.vm.qemu import QemuHypervisor
from tests.wait import wait_for

_MODULES = (
    "esp4 xfrm_user authenc cbc hmac sha512_generic drbg echainiv des_generic ppp_async veth macvlan iptable_nat "
    "xt_MASQUERADE"
)

_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /etc/ppp
touch /run/resolv.conf
mount --bind /run/resolv.conf /etc/resolv.conf
ip link set lo up
ip link set eth0 up promisc on
for module in {modules}; do modprobe -d {folder}/root "$module"; done
sysctl -q net.ipv4.ip_forward=1
cd {folder}
touch ready
while :; do
    for command in [0-9]*.sh; do
        [ -e "$command" ] || continue
        number=${{command%.sh}}
        mv "$command" "$number.run"
        {{ sh "$number.run" >"$number.out" 2>&1; echo $? >"$number.new"; mv "$number.new" "$number.status"; }} &
    done
    sleep 0.05
done
"""


#: counts what goes over an interface, by source, protocol and UDP's destination port, until its input ends
_COUNT = """
import collections, json, select, socket, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sniffer.bind((sys.argv[1], 3))
print("ready", flush=True)
seen = collections.Counter()
while sys.stdin not in select.select([sniffer, sys.stdin], [], [])[0]:
    packet = sniffer.recv(100)
    if packet[12:14] == b"\\x08\\x00":
        port = f"/{int.from_bytes(packet[36:38], 'big')}" if packet[23] == socket.IPPROTO_UDP else ""
        seen[f"{socket.inet_ntoa(packet[26:30])} {packet[23]}{port}"] += 1
print(json.dumps(seen))
"""


class RoadMachine:
    """The machine. ``close`` ends it."""

    def __init__(self, lab: Lab, segment: str) -> None:
        hypervisor = lab.hypervisor
        assert isinstance(hypervisor, QemuHypervisor)
        self.folder = Path(tempfile.mkdtemp(prefix="gatehouse-road-"))
        self._patience = lab.patience
        self._devices: list[Device] = []
        self._number = 0
        self._hypervisor = hypervisor
        self._tap = tap = hypervisor.wire("roads", Nic(lab.mac(), segment))
        (self.folder / "root/lib").mkdir(parents=True)
        (self.folder / "root/lib/modules").symlink_to("/usr/lib/uml/modules")
        init = self.folder / "init"
        init.write_text(_INIT.format(folder=self.folder, modules=_MODULES))
        init.chmod(0o755)
        argv = ["linux.uml", "mem=640M", "rootfstype=hostfs", "rootflags=/", "rw", f"init={init}"]
        argv += ["con=null", "con0=fd:0,fd:1", f"eth0=tuntap,{tap},{lab.mac()}", f"uml_dir={self.folder}/"]
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                hypervisor.inside(*argv),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        wait_for((self.folder / "ready").exists, 60, "the machine of the devices")

    def close(self) -> None:
        # User-Mode Linux has a process of this machine for each of its own
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder)

    def start(self, script: str) -> int:
        """Begin a shell script; its number."""
        self._number += 1
        path = self.folder / f"{self._number}.new"
        path.write_text(script)
        path.rename(path.with_suffix(".sh"))
        return self._number

    def end(self, number: int, timeout: float = 30) -> tuple[int, str]:
        """Wait for a script; its status and output."""
        status = self.folder / f"{number}.status"
        wait_for(status.exists, timeout * self._patience, f"script {number}", interval=0.05)
        return int(status.read_text()), (self.folder / f"{number}.out").read_text(errors="replace")

    def run(self, script: str, timeout: float = 30) -> tuple[int, str]:
        return self.end(self.start(script), timeout)

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """What goes in and out of the machine meanwhile: "<source> <protocol>[/<UDP port>]" -> packets; not IKE."""
        argv = self._hypervisor.inside(sys.executable, "-c", _COUNT, self._tap)
        found = Counter[str]()
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as counter:
            assert counter.stdout is not None
            assert counter.stdout.readline() == "ready\n"
            yield found
            seen = json.loads(counter.communicate(timeout=10)[0])
            found.update({key: count for key, count in seen.items() if not key.endswith(" 17/500")})

    def device(self, name: str, address: str) -> Device:
        """A device with ``address`` (of a /24) on the segment."""
        link = f"m-{name}"
        self._made(
            f"set -e; ip netns add {name}; ip link add link eth0 name {link} type macvlan mode bridge; "
            f"ip link set {link} netns {name} name eth0; {_up(name, address)}"
        )
        return self._known(Device(self, name, address))

    def _known(self, device: Device) -> Device:
        self._devices.append(device)
        return device

    def quiet(self) -> None:
        """End everything of all devices without a word."""
        for device in self._devices:
            if device.folder.exists():
                device.stop()

    def home(self, name: str, address: str, count: int) -> list[Device]:
        """A NAT with ``address`` (of a /24) on the segment, and ``count`` devices behind it."""
        nat = self.device(name, address).name
        self._made(f"ip netns exec {nat} iptables-legacy -t nat -A POSTROUTING -o eth0 -j MASQUERADE")
        self._made(f"ip netns exec {nat} sysctl -q net.ipv4.ip_forward=1")
        devices = []
        for number in range(1, count + 1):
            inner, inside = f"{name}{number}", f"10.9.{number}"
            self._made(
                f"set -e; ip netns add {inner}; ip link add v-{inner} netns {nat} type veth peer name eth0 "
                f"netns {inner}; ip -n {nat} address add {inside}.1/24 dev v-{inner}; "
                f"ip -n {nat} link set v-{inner} up; "
                f"{_up(inner, f'{inside}.2')}; ip -n {inner} route add default via {inside}.1"
            )
            devices.append(self._known(Device(self, inner, f"{inside}.2")))
        return devices

    def _made(self, script: str) -> None:
        status, output = self.run(script)
        assert status == 0, output


def _up(name: str, address: str) -> str:
    return f"ip -n {name} address add {address}/24 dev eth0; ip -n {name} link set eth0 up; ip -n {name} link set lo up"


_STRONGSWAN = """
charon {{
  load = random nonce aes sha1 sha2 md5 hmac kdf gcm openssl kernel-netlink socket-default stroke
  filelog {{
    file {{
      path = {folder}/charon.log
      default = 1
      flush_line = yes
    }}
  }}
  plugins {{
    stroke {{
      secrets_file = {folder}/ipsec.secrets
    }}
    openssl {{
      load_legacy = yes
    }}
  }}
}}
starter {{
  load_warning = no
}}
"""

#: what NetworkManager-l2tp 1.20.8 writes of our profile (src/nm-l2tp-service.c; seen), its proposals included
_IPSEC = """
conn vpn
  auto=add
  type=transport
  authby=secret
  left=%defaultroute
  leftprotoport=udp/l2tp
  rightprotoport=udp/l2tp
  right={server}
  rightid=%any
  keyingtries=%forever
  keyexchange=ikev1
  ike={ike}
  esp={esp}
"""

#: of IKE and ESP
POLICIES = (
    "aes256-sha2_256-modp2048,aes256-sha2_256-modp1536,aes256-sha2_256-modp1024,aes256-sha1-modp2048,"
    "aes256-sha1-modp1536,aes256-sha1-modp1024,aes256-sha1-ecp384,aes128-sha1-modp1024,aes128-sha1-ecp256,"
    "3des-sha1-modp2048,3des-sha1-modp1024!",
    "aes256-sha1,aes128-sha1,3des-sha1!",
)

#: a gateway of a site: its network's address is on lo
_SITE = """
conn vpn
  auto=add
  type=tunnel
  authby=secret
  left={address}
  leftsubnet={network}
  right={server}
  rightsubnet={guests}
  keyexchange=ikev2
  ike=aes256-sha256-modp2048!
  esp=aes256-sha256!
  forceencaps={encap}
"""

_XL2TPD = """
[global]
access control = yes
port = 1701
[lac l2tp]
lns = {server}
pppoptfile = {folder}/ppp-options
autodial = yes
tunnel rws = 8
tx bps = 100000000
rx bps = 100000000
"""

# with the password in place of the plugin by which NetworkManager hands it over, and a script that does nothing
_PPP = """
ipparam nm-l2tp-service-vpn
nodetach
usepeerdns
noipdefault
nodefaultroute
noauth
noccp
user "{user}"
password "{password}"
refuse-eap
refuse-pap
refuse-chap
refuse-mschap
lcp-echo-failure 0
lcp-echo-interval 0
mru 1400
mtu 1400
ip-up-script /bin/true
"""

_SECURE = """
mount -t tmpfs tmpfs /run
export STRONGSWAN_CONF={folder}/strongswan.conf
ipsec start --conf {folder}/ipsec.conf || exit 1
for try in 1 2 3 4 5 6 7 8 9 10; do ipsec rereadsecrets && break; sleep 0.3; done
ipsec up vpn >{folder}/up.log 2>&1
ipsec status vpn | grep -q INSTALLED || exit 1
"""

_DIAL = "exec xl2tpd -D -c {folder}/xl2tpd.conf -C {folder}/control -p {folder}/xl2tpd.pid >{folder}/xl2tpd.log 2>&1\n"


@dataclass
class Device:
    """One device of the machine."""

    machine: RoadMachine
    name: str
    address: str
    connected_in: float = field(default=0.0)

    @property
    def folder(self) -> Path:
        return self.machine.folder / self.name

    def connect(
        self,
        server: str,
        psk: str,
        user: str,
        password: str,
        *,
        policies: tuple[str, str] = POLICIES,
        secured: bool = True,
    ) -> int:
        """Begin to connect, with new daemons; the number of the script, which ends early only where IPsec fails.

        ``policies``: of IKE and ESP. Without ``secured`` L2TP is tried in the clear.
        """
        files = {
            "xl2tpd.conf": _XL2TPD.format(server=server, folder=self.folder),
            "ppp-options": _PPP.format(user=user, password=password),
        }
        ipsec = _IPSEC.format(server=server, ike=policies[0], esp=policies[1])
        return self._begin(files, ipsec if secured else "", psk, _DIAL)

    def join(self, server: str, guests: str, psk: str, network: str, *, encap: bool) -> int:
        """Begin to connect as the gateway of ``network`` by IKEv2; it has the tenth address there."""
        self.run(f"ip address replace {IPv4Network(network)[10]}/32 dev lo")
        ipsec = _SITE.format(
            address=self.address, network=network, server=server, guests=guests, encap="yes" if encap else "no"
        )
        return self._begin({}, ipsec, psk, "")

    def _begin(self, files: dict[str, str], ipsec: str, psk: str, after: str) -> int:
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.glob("*.log"):
            path.unlink()
        files |= {
            "strongswan.conf": _STRONGSWAN.format(folder=self.folder),
            "ipsec.conf": ipsec,
            "ipsec.secrets": f": PSK 0s{base64.b64encode(psk.encode()).decode()}\n",
            "connect": ((_SECURE if ipsec else "") + after).format(folder=self.folder),
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        return self.machine.start(f"exec ip netns exec {self.name} unshare -m sh {self.folder}/connect")

    def run(self, command: str, timeout: float = 30) -> tuple[int, str]:
        return self.machine.run(f"ip netns exec {self.name} {command}", timeout)

    def ok(self, command: str, timeout: float = 30) -> bool:
        return self.run(command, timeout)[0] == 0

    def ppp(self) -> str:
        """Its address inside, "" without one."""
        words = self.run("ip -o -4 address show dev ppp0")[1].split()
        return words[3].partition("/")[0] if "inet" in words else ""

    def wait_connected(self, timeout: float = 30) -> str:
        """Wait for its address inside."""
        started = time.monotonic()
        found = wait_for(self.ppp, timeout * self.machine._patience, f"{self.name} to be connected", interval=0.1)
        self.connected_in = time.monotonic() - started
        return found

    def stop(self) -> None:
        """End everything of it without a word."""
        self.machine.run(
            f"ip netns pids {self.name} | xargs -r kill -9; ip -n {self.name} xfrm state flush; "
            f"ip -n {self.name} xfrm policy flush"
        )

    def log(self) -> str:
        """What its daemons said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))
