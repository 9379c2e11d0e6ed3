"""What the commands about virtual machines share."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.api.call import Call
from controlplane.api.command import ROOT_ADMIN, Async, Params, answer, param
from controlplane.api.views.vms import VirtualMachineResponse, show_vms
from controlplane.errors import ParameterError
from controlplane.store.models import Account, AsyncJob, Vm


class VmId(Params):
    """The id of a VM."""

    id: str = param("id of the VM", entity="UserVm")


def show_guest(session: Session, job: AsyncJob, vm_id: str, password: str | None = None) -> VirtualMachineResponse:
    """A VM as the result of a job; ``password`` is sealed, and opened when the client asks for the result."""
    vm = session.get_one(Vm, vm_id)
    session.refresh(vm)
    for_root = session.get_one(Account, job.account_id).type == ROOT_ADMIN
    [answer] = show_vms(session, [vm], for_root=for_root)
    answer.password = password
    return answer


def find(call: Call, id: str, parameter: str = "id") -> Vm:
    """A VM that the caller may use and that is not on its way out."""
    vm = call.lookup(Vm, id, parameter)
    if vm.state == "Expunging":
        raise ParameterError(f"{parameter}: VM {vm.name} is being expunged")
    return vm


def flow(call: Call, vm: Vm, description: str, workflow: str, **arguments: object) -> Async:
    """The answer of a command that a workflow carries out."""
    return answer("VirtualMachine", vm.id, "vm", description, workflow, **arguments)
