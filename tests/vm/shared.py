"""One virtual machine for the routers of many tests, and one for each kind of system VM: booting takes long.

Each router that a test asks the lab for takes the machine over from the one before: the machine is emptied by a
document without services, and its NICs are plugged into the new router's segments. So tests/netns can be run with
routers that are virtual machines, see ``--hypervisor`` in tests/conftest.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from appliance.schema.envelope import Role
from appliance.settings import Settings
from router.services.password.render import vault_directory
from tests.netns.lab import Lab, Router, State, validated
from tests.vm.qemu import QemuHypervisor

#: role -> names that tests' documents give to the control interface and to all others
INTERFACES: Mapping[Role, tuple[str, tuple[str, ...]]] = {
    "router": ("eth1", ("eth0", "eth2", "eth3", "eth4")),
    "consoleproxy": ("eth0", ("eth1", "eth2")),
    "ssvm": ("eth0", ("eth1", "eth2")),
}
#: of each machine
MEMORY_MB = 512


class SharedLab(Lab):
    """Its routers share a machine, one after the other, and so do system VMs of each role.

    A router that is there for another one to talk to (``far``) is in a namespace, where it costs no boot.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        #: by role: whose turn it is
        self.holders: dict[Role, SharedRouter] = {}

    def router(
        self,
        state: State,
        *,
        role: Role = "router",
        segments: Mapping[str, str] | None = None,
        push: bool = True,
        memory_mb: int = 256,
        far: bool = False,
    ) -> Router:
        hypervisor = cast(QemuHypervisor, self.hypervisor)
        if far or role not in INTERFACES:
            router = self.made(state, role, segments, memory_mb)
            if far:
                hypervisor.in_namespaces.add(router.id)
            router.start()
        else:
            router = self._take_over(role)
            wanted = validated(state, role)
            router.push({"hostname": "empty", "interfaces": {"interfaces": wanted.interfaces.of_role("control")}})
            # which passwords were fetched is remembered for longer than a test, which may use the same ids
            router.run(["rm", "-rf", str(vault_directory(Settings()))])
            for name, segment in self.segments_of(wanted, segments or {}).items():
                if name in router.macs:
                    hypervisor.move_nic(router.id, router.macs[name], segment)
        if push:
            router.push(state)
        return router

    def _take_over(self, role: Role) -> SharedRouter:
        """The machine of a role, running."""
        before = self.holders.get(role)
        if before is None:
            control, others = INTERFACES[role]
            parked = [
                {"name": name, "mac": self.mac(), "role": "management", "addresses": [f"10.255.{number}.1/24"]}
                for number, name in enumerate(others)
            ]
            state = {"hostname": "shared", "interfaces": {"interfaces": [self.control(control), *parked]}}
            machine = self.made(state, role, dict.fromkeys(others, "parked"), MEMORY_MB)
            router = SharedRouter(self, machine.id, machine.address, role)
            router.spec = machine.spec
            router.macs = {str(nic["name"]): str(nic["mac"]) for nic in parked}
        else:
            before.agent.close()
            router = SharedRouter(self, before.id, before.address, role)
            router.spec, router.macs, router.generation = before.spec, before.macs, before.generation
        self.holders[role] = self.routers[router.id] = router
        if self.hypervisor.power(router.id) != "running":
            router.start()
        return router

    def clear(self) -> None:
        """Remove everything but the shared machines."""
        for router in [router for router in self.routers.values() if router not in self.holders.values()]:
            router.agent.close()
            self.hypervisor.destroy(router.id)
            del self.routers[router.id]
        for name in self.machines:
            self.hypervisor.destroy(name)
        self.machines.clear()


@dataclass(eq=False)
class SharedRouter(Router):
    """A router while it has the machine; afterwards it is as if it was switched off."""

    #: interface name -> MAC of the machine's NIC, in place of the document's
    macs: dict[str, str] = field(default_factory=dict)

    def _has_the_machine(self) -> bool:
        return cast(SharedLab, self.lab).holders[self.role] is self

    def document(self, state: State) -> bytes:
        assert self._has_the_machine(), "another router has the machine now"
        document: dict[str, Any] = json.loads(super().document(state))
        control = json.loads(self.spec.identity["identity.json"])["control"]
        for interface in document["state"]["interfaces"]["interfaces"]:
            if interface["role"] == "control":
                interface |= {"mac": control["mac"], "addresses": [control["address"]]}
            else:
                interface["mac"] = self.macs[interface["name"]]
        return json.dumps(document).encode()

    def stop(self, *, force: bool = False) -> None:
        if self._has_the_machine():
            super().stop(force=force)
