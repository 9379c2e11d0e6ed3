"""How people get into a VM: its password and its SSH key."""

from __future__ import annotations

from controlplane.api import guests
from controlplane.api.call import Call
from controlplane.api.command import Async, command, param
from controlplane.api.commands.deploy import new_password
from controlplane.api.guests import VmId
from controlplane.api.views.vms import VirtualMachineResponse
from controlplane.compute import keypairs, vms
from controlplane.convergence.desired import desire_network
from controlplane.errors import ParameterError
from controlplane.store.models import Vm


class ResetSshKey(VmId):
    keypair: str | None = param("name of the SSH key pair", default=None)
    keypairs: list[str] | None = param("names of SSH key pairs", default=None)
    account: str | None = param("owner of the key pair; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


@command(
    "resetPasswordForVirtualMachine",
    description="Makes a new password, which the VM fetches at its next start; the VM must be stopped",
    params=VmId,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    is_async=True,
    event="VM.RESETPASSWORD",
)
def reset_password(call: Call, params: VmId) -> Async:
    vm = guests.find(call, params.id)
    if not vm.template.password_enabled:
        raise ParameterError(
            f"Fail to reset password for the virtual machine, the template {vm.template.name} is not password enabled"
        )
    vms.need_state(vm, "Stopped", to="reset the password of")
    return _reset(call, vm, f"resetting the password of VM {vm.name}", new_password(call, vm))


@command(
    "resetSSHKeyForVirtualMachine",
    description="Gives a stopped VM another SSH key, and a new password if its template takes one",
    params=ResetSshKey,
    response=VirtualMachineResponse,
    object_name="virtualmachine",
    response_key="resetSSHKeyforvirtualmachineresponse",
    is_async=True,
    event="VM.RESETSSHKEY",
)
def reset_ssh_key(call: Call, params: ResetSshKey) -> Async:
    vm = guests.find(call, params.id)
    owner = call.owner(params.account, params.domainid) if params.account is not None else vm.account
    wanted = ([params.keypair] if params.keypair else []) + (params.keypairs or [])
    if not wanted:
        raise ParameterError("keypair or keypairs must be given")
    pairs = [keypairs.find(call.session, owner, name) for name in dict.fromkeys(wanted)]
    vms.need_state(vm, "Stopped", to="reset the SSH key of")
    vm.ssh_keypair = ",".join(pair.name for pair in pairs)
    vm.public_key = "\n".join(pair.public_key for pair in pairs)
    sealed = new_password(call, vm) if vm.template.password_enabled else None
    return _reset(call, vm, f"resetting the SSH key of VM {vm.name}", sealed)


def _reset(call: Call, vm: Vm, description: str, sealed: str | None) -> Async:
    """The job ends when the router of the VM's default network has it; the others follow by themselves."""
    call.session.flush()
    target = None
    for nic in vm.nics:
        asked = desire_network(call.session, nic.network_id)
        if nic.is_default:
            target = asked
        elif asked is not None:
            other = asked[0]
            call.after_commit(lambda other=other: call.runtime.wake(other))  # type: ignore[misc]
    return Async(
        "VirtualMachine",
        vm.id,
        description,
        target=target,
        completion="vm.show",
        arguments={"vm_id": vm.id, "password": sealed},
    )
