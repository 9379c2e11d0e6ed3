"""Commands in a guest through its QEMU guest agent (https://qemu.readthedocs.io/en/latest/interop/qemu-ga-ref.html)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from subprocess import CompletedProcess
from typing import Any

import libvirt
import libvirt_qemu

from controlplane.hypervisors.base import HypervisorError

#: seconds for the agent to answer one question
_ANSWER = 10


def execute(
    domain: Any, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 30
) -> CompletedProcess[str]:
    """Run ``argv`` in the guest to its end, with captured output. Raises HypervisorError when no agent answers."""
    arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if stdin is not None:
        arguments["input-data"] = base64.b64encode(stdin.encode()).decode()
    pid = _ask(domain, "guest-exec", arguments)["pid"]
    deadline, pause = time.monotonic() + timeout, 0.02
    while True:
        status = _ask(domain, "guest-exec-status", {"pid": pid})
        if status["exited"]:
            break
        if time.monotonic() > deadline:
            raise HypervisorError(f"{argv[0]} in {domain.name()} did not end within {timeout:g} s")
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)
    code = status.get("exitcode", 128 + int(status.get("signal", 0)))
    return CompletedProcess(list(argv), code, _text(status, "out-data"), _text(status, "err-data"))


def _text(status: dict[str, Any], name: str) -> str:
    return base64.b64decode(status.get(name, "")).decode(errors="replace")


def _ask(domain: Any, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    question = json.dumps({"execute": command, "arguments": arguments})
    try:
        answer: dict[str, Any] = json.loads(libvirt_qemu.qemuAgentCommand(domain, question, _ANSWER, 0))["return"]
    except libvirt.libvirtError as error:
        raise HypervisorError(
            f"no command in {domain.name()}: {error}; it needs a running QEMU guest agent (qemu-guest-agent)"
        ) from error
    return answer
