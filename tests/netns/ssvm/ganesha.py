"""An NFS server on a machine of the tests: nfs-ganesha, in userspace, version 4 only."""

from __future__ import annotations

import subprocess
import textwrap

from tests.netns.lab import Machine
from tests.wait import wait_for

PORT = 2049
EXPORT = "/export/secondary"

_CONFIGURATION = f"""
NFS_CORE_PARAM {{
    Protocols = 4; NFS_Port = {PORT}; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false;
    Plugins_Dir = "/usr/lib/x86_64-linux-gnu/ganesha";
}}
NFSv4 {{
    Grace_Period = 1; Lease_Lifetime = 5; Graceless = true; RecoveryRoot = "/run/ganesha"; Only_Numeric_Owners = true;
}}
EXPORT {{
    Export_Id = 1; Path = "{EXPORT}"; Pseudo = "{EXPORT}"; Access_Type = RW; Squash = No_Root_Squash;
    SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }}
}}
LOG {{ Default_Log_Level = WARN; }}
"""


class Ganesha:
    """A running server of the directory ``EXPORT`` of ``machine``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        # what is exported must have file handles, which overlays have not; it is looked up in /etc/mtab
        machine.run(["mkdir", "-p", EXPORT, "/run/ganesha"])
        machine.run(["ln", "-sf", "/proc/self/mounts", "/etc/mtab"])
        machine.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", EXPORT])
        machine.write("/run/ganesha.conf", textwrap.dedent(_CONFIGURATION))
        self.start()

    def start(self) -> None:
        argv = ["/usr/bin/ganesha.nfsd", "-F", "-f", "/run/ganesha.conf", "-p", "/run/ganesha.pid"]
        inside = self._machine.lab.hypervisor.command(self._machine.id, [*argv, "-L", "/run/ganesha.log"])
        # file handles are opened with a capability that guests have not (open_by_handle_at(2))
        words = inside[inside.index("nsenter") :]
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self._machine.connects("127.0.0.1", PORT), 20, "nfs-ganesha")

    def stop(self) -> None:
        self._machine.kill("ganesha.nfsd")

    def objects(self) -> list[str]:
        """Files of the export as the server has them."""
        found = self._machine.run(["find", EXPORT, "-type", "f"]).stdout.split()
        return [path.removeprefix(f"{EXPORT}/") for path in found]
