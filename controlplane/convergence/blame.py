"""Whose change made an appliance refuse its document.

A document holds many people's changes; one that is refused must not block the others. Problems name entries by
id; the job that is waiting for such an entry is failed, and its reversal takes the entry back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.schema.status import Problem
from controlplane.store.models import AsyncJob, FirewallRule, Nic, Vm

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def blamed_ids(problems: Iterable[Problem], document: bytes) -> set[str]:
    """Ids of the document's entries that the problems are about: named in the text, or by the field's path."""
    problems = list(problems)
    found = {match for problem in problems for match in _UUID.findall(problem.message)}
    if any(problem.field for problem in problems):
        state = json.loads(document)["state"]
        found |= {id for problem in problems if (id := _entry_id(state, problem.field))}
    return found


def _entry_id(state: object, path: str) -> str | None:
    found = None
    for part in path.removeprefix("state.").split("."):
        if isinstance(state, list) and part.isdigit() and int(part) < len(state):
            state = state[int(part)]
            if isinstance(state, dict) and isinstance(state.get("id"), str):
                found = state["id"]
        elif isinstance(state, dict) and part in state:
            state = state[part]
        else:
            break
    return found


def widen(session: Session, ids: set[str]) -> set[str]:
    """The ids with those of what they belong to: a NIC's VM, a password's VM, a firewall rule's port forward."""
    owners = set(session.scalars(select(Nic.vm_id).where(Nic.id.in_(ids))))
    owners |= set(session.scalars(select(Vm.id).where(Vm.password_id.in_(ids))))
    forwards = select(FirewallRule.port_forwarding_rule_id).where(FirewallRule.id.in_(ids))
    owners |= {id for id in session.scalars(forwards) if id is not None}
    return ids | owners


def culprits(jobs: Sequence[AsyncJob], ids: set[str]) -> list[AsyncJob]:
    """The jobs that brought in one of the entries ``ids`` (widened)."""

    def concerns(job: AsyncJob) -> bool:
        arguments = (job.completion or {}).get("arguments", {})
        return job.instance_id in ids or any(isinstance(value, str) and value in ids for value in arguments.values())

    return [job for job in jobs if concerns(job)]
