"""Consoles end with what their guest is at."""

from __future__ import annotations

from controlplane.console import sessions
from controlplane.workflows.flow import Flow


def close_consoles(flow: Flow, vm_id: str, reason: str) -> None:
    """Close all consoles of a guest, at once."""
    with flow.core.database.transaction() as session:
        woken = sessions.close(session, sessions.of_vm(vm_id), reason)
    for proxy_id in woken:
        flow.reconciler.wake(proxy_id)
