"""What the commands about load balancer rules share: how a change of one ends."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api.call import Call
from controlplane.api.command import Async, Response, Success
from controlplane.api.tagging import remove_tags
from controlplane.api.views.loadbalancers import show_policies, show_rules
from controlplane.convergence.desired import desire_network
from controlplane.network import loadbalancing
from controlplane.store.models import (
    AsyncJob,
    LoadBalancer,
    LoadBalancerCertificate,
    LoadBalancerMember,
    LoadBalancerPolicy,
)

Part = LoadBalancerMember | LoadBalancerPolicy | LoadBalancerCertificate


def changed(
    call: Call,
    rule: LoadBalancer,
    description: str,
    *,
    show: str = "",
    added: tuple[str, list[str]] | None = None,
    revoked: tuple[str, list[str]] | None = None,
    before: dict[str, Any] | None = None,
    instance: tuple[str, str] | None = None,
) -> Async:
    """The answer of a command that has changed something of a rule.

    ``show``: what the job answers: "rule", a kind of policy, or else whether it went well. When the router refuses,
    what was ``added`` (kind of part, ids) goes again, what was ``revoked`` stays, and the rule's columns are as
    ``before``.
    """
    type, id = instance or ("LoadBalancer", rule.id)
    return Async(
        type,
        id,
        description,
        target=desire_network(call.session, rule.network_id),
        completion="balancer.changed",
        arguments={"rule_id": rule.id, "show": show, "added": added, "revoked": revoked, "before": before},
    )


@jobs.completion("balancer.changed")
def _settled(
    session: Session, job: AsyncJob, *, rule_id: str, show: str, added: Any, revoked: Any, before: Any
) -> Response:
    rule = loadbalancing.settle(session, rule_id)
    for row in _rows(session, revoked):
        if row.state == "Revoke":  # not when it was added again meanwhile
            session.delete(row)
    session.flush()
    if rule is None or not show:
        return Success()
    return show_rules(session, [rule])[0] if show == "rule" else show_policies(session, rule, show)


@jobs.reversal("balancer.changed")
def _taken_back(
    session: Session, job: AsyncJob, *, rule_id: str, show: str, added: Any, revoked: Any, before: Any
) -> None:
    rule = session.get(LoadBalancer, rule_id)
    if rule is None or rule.state == "Revoke":
        return
    for name, value in (before or {}).items():
        setattr(rule, name, value)
    for row in _rows(session, added):
        session.delete(row)
    for row in _rows(session, revoked):
        row.state = "Active"
    session.flush()


def _rows(session: Session, parts: Any) -> list[Part]:
    kind, ids = parts or ("", [])
    if kind == "member":
        return list(session.scalars(select(LoadBalancerMember).where(LoadBalancerMember.id.in_(ids))))
    if kind == "policy":
        return list(session.scalars(select(LoadBalancerPolicy).where(LoadBalancerPolicy.id.in_(ids))))
    return list(session.scalars(select(LoadBalancerCertificate).where(LoadBalancerCertificate.id.in_(ids))))


@jobs.completion("balancer.created")
def _created(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    rule = loadbalancing.settle(session, rule_id)
    return show_rules(session, [rule])[0] if rule is not None else Success()


@jobs.reversal("balancer.created")
def _not_created(session: Session, job: AsyncJob, *, rule_id: str) -> None:
    rule = session.get(LoadBalancer, rule_id)
    if rule is not None:
        loadbalancing.revoke(session, rule)
        loadbalancing.remove(session, rule_id)


@jobs.completion("balancer.deleted")
def _deleted(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    remove_tags(session, "LoadBalancer", rule_id)
    loadbalancing.remove(session, rule_id)
    return Success()
