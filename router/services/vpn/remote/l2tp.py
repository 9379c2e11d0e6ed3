"""L2TP inside IPsec: one xl2tpd for each public address, whose pppd's ask for users and passwords (MS-CHAPv2 only).

Passwords are in a file that pppd alone reads, by a fixed name that leads to ours: what makes the appliance makes the
link (image-build/hooks).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from appliance.engine.service import File, Rendered, Supervisor, Unit
from appliance.settings import Settings
from appliance.templates import fill
from router.services.vpn.plane import Plane
from router.services.vpn.remote.firewall import L2TP_MTU
from router.services.vpn.remote.ike import l2tp_pool
from router.services.vpn.remote.model import RemoteAccess

XL2TPD = Path("/usr/sbin/xl2tpd")
PPPD = Path("/usr/sbin/pppd")
#: where pppd looks for passwords
CHAP_SECRETS = Path("/etc/ppp/chap-secrets")


def unit_name(address: str) -> str:
    """The xl2tpd of a public address."""
    return f"xl2tpd-{address}"


def peer_of(supervisor: Supervisor, address: str, pid: str) -> str:
    """Where the client of a pppd is, by what its xl2tpd said when it started it; "" when that is no longer known."""
    text = supervisor.log_tail(unit_name(address), 500)
    found = re.findall(rf"Call established with ([\d.]+), PID: {pid},", text)
    return found[-1] if found else ""


def secrets_file(settings: Settings) -> Path:
    return settings.config_dir / "vpn/chap-secrets"


def notes_dir(settings: Settings) -> Path:
    """Where pppd's note down who is connected (sessions.py)."""
    return settings.run_dir / "vpn/l2tp"


def obstacle(plane: Plane, settings: Settings) -> str:
    """Why L2TP cannot be served on this machine, "" when it can."""
    if not plane.kernel:
        return "L2TP needs IPsec in transport mode, which this router's kernel does not have"
    # "108 ppp": the module is loaded (Documentation/admin-guide/devices.txt)
    if "108 ppp" not in Path("/proc/devices").read_text().splitlines():
        return "L2TP needs PPP, which this router's kernel does not have"
    if not XL2TPD.exists() or not PPPD.exists():
        return "L2TP needs xl2tpd and pppd, which this router does not have"
    if CHAP_SECRETS.resolve() != secrets_file(settings).resolve():
        return f"L2TP needs {CHAP_SECRETS} to be a link to {secrets_file(settings)}"
    return ""


def render(remote: Sequence[RemoteAccess], settings: Settings) -> Rendered:
    """Files and units of the public addresses ``remote``."""
    files, units = {}, []
    for access in remote:
        folder = settings.config_dir / f"vpn/l2tp-{access.address}"
        run_dir = settings.run_dir / f"vpn/l2tp-{access.address}"
        options, up, conf = folder / "ppp.options", folder / "ppp-up", folder / "xl2tpd.conf"
        first, last = l2tp_pool(access)
        files[conf] = _file(
            "xl2tpd.conf.j2",
            address=access.address,
            first=first,
            last=last,
            server=access.clients.first,
            options=options,
        )
        files[options] = _file("ppp.options.j2", address=access.address, mtu=L2TP_MTU, dns=access.dns, up=up)
        files[up] = _file("ppp-up.j2", mode=0o700, address=access.address, notes=notes_dir(settings))
        units.append(
            Unit(
                name=unit_name(str(access.address)),
                argv=(
                    str(XL2TPD),
                    "-D",
                    "-c",
                    str(conf),
                    "-s",
                    "/dev/null",
                    "-p",
                    str(run_dir / "pid"),
                    "-C",
                    str(run_dir / "control"),
                ),
                capabilities=frozenset({"net_admin"}),
                writable=(run_dir, notes_dir(settings)),
            )
        )
    if remote:
        files[secrets_file(settings)] = _file("chap-secrets.j2", remote=remote)
    return Rendered(files=files, units=tuple(units))


def _file(template: str, *, mode: int = 0o600, **values: object) -> File:
    return File(fill(__package__, template, **values), mode=mode)
