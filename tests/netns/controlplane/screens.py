"""``gatehouse serve`` on the namespace hypervisor, where guests have the screens that ``screens.json`` names.

The file, in the data directory, has fields of ConsoleTarget by guest id. Appliances do not start while there is a file
``hold`` beside it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controlplane import cli
from controlplane.hypervisors import registry
from controlplane.hypervisors.base import ApplianceSpec, ConsoleTarget, HypervisorError
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.wait import wait_for

NAME, FILE, HOLD = "screens", "screens.json", "hold"
SERVE = (sys.executable, "-m", "tests.netns.controlplane.screens", "serve", "--hypervisor", NAME)


class Screens(NamespaceHypervisor):
    """The namespace hypervisor with screens from elsewhere."""

    def __init__(self, data: Path, _options: registry.HypervisorOptions) -> None:
        super().__init__(data / "namespace", data=data)
        self._file, self._hold = data / FILE, data / HOLD

    def start_appliance(self, spec: ApplianceSpec) -> None:
        wait_for(lambda: not self._hold.exists(), 120, "leave to start")
        super().start_appliance(spec)

    def console(self, instance_id: str) -> ConsoleTarget:
        screens = json.loads(self._file.read_text())
        if instance_id not in screens:
            raise HypervisorError(f"guest {instance_id} has no screen")
        return ConsoleTarget(**screens[instance_id])


if __name__ == "__main__":
    registry.HYPERVISORS[NAME] = Screens
    sys.exit(cli.main())
