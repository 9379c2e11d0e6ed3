"""The document of a secondary-storage VM."""

from __future__ import annotations

import json

from pydantic import ValidationError

from controlplane.convergence.compile.encoding import dump, extend, object_of, reasons
from controlplane.convergence.compile.interfaces import interfaces_of
from controlplane.convergence.compile.memo import CompileError, Memo
from controlplane.convergence.intent.ssvm import SsvmIntent
from ssvm.services.storage.model.section import Storage


def compile_ssvm(intent: SsvmIntent, memo: Memo) -> bytes:
    """The SsvmDocument (JSON, UTF-8) of one SSVM. Raises CompileError."""
    try:
        storage = Storage.model_validate({"resolvers": intent.resolvers})
    except ValidationError as error:
        raise CompileError(intent.appliance_id, reasons(error)) from error
    state = {
        "hostname": json.dumps(intent.name).encode(),
        "interfaces": dump(interfaces_of(intent)),
        "storage": dump(storage),
    }
    head = {"kind": "ssvm", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return extend(json.dumps(head).encode(), state=object_of(state))
