"""What the commands of the ingress and the egress firewall share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api import listing, tagging
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, Response, ScopedListParams, Success, param
from controlplane.api.tagging import TagEntry, remove_tags
from controlplane.api.views.rules import FirewallResponse, show_firewall_rules
from controlplane.convergence.desired import desire_network
from controlplane.errors import unknown_id
from controlplane.network import firewall
from controlplane.store.models import AsyncJob, FirewallRule, Network


class RuleId(Params):
    """The id of a rule."""

    id: str = param("id of the firewall rule", entity="FirewallRule")


def find(call: Call, id: str, traffic_type: str) -> FirewallRule:
    """A rule that the caller may use; an egress rule is unknown to the ingress commands and the other way round."""
    rule = call.lookup(FirewallRule, id)
    if rule.traffic_type != traffic_type:
        raise unknown_id("id", id)
    return rule


def created(call: Call, rule: FirewallRule, description: str) -> Async:
    """The answer of a command that has added a rule."""
    return Async(
        "FirewallRule",
        rule.id,
        description,
        target=desire_network(call.session, rule.network_id),
        completion="firewall.activate",
        arguments={"rule_id": rule.id},
    )


def unchanged(rule: FirewallRule) -> Async:
    """The answer of an update: nothing of a rule that has an effect can be changed."""
    return Async(
        "FirewallRule",
        rule.id,
        f"updating firewall rule {rule.id}",
        completion="firewall.show",
        arguments={"rule_id": rule.id},
    )


def deleted(call: Call, rule: FirewallRule) -> Async:
    """Revoke a rule, and the answer of that."""
    firewall.revoke(call.session, [rule])
    return Async(
        "FirewallRule",
        rule.id,
        f"deleting firewall rule {rule.id}",
        target=desire_network(call.session, rule.network_id),
        completion="firewall.deleted",
        arguments={"rule_id": rule.id},
    )


def page(
    call: Call,
    statement: Select[Any],
    params: ScopedListParams,
    *,
    id: str | None,
    network_id: str | None,
    tags: list[TagEntry] | None,
) -> tuple[int, list[Any]]:
    """A page of rules."""
    statement = statement.join(Network, Network.id == FirewallRule.network_id)
    statement = listing.scope(call, statement, Network.account_id, params, by_id=id is not None)
    if id is not None:
        statement = statement.where(FirewallRule.id == id)
    if network_id is not None:
        statement = statement.where(FirewallRule.network_id == network_id)
    statement = tagging.with_tags(statement, "FirewallRule", FirewallRule.id, tags)
    statement = listing.search(statement, params.keyword, FirewallRule.protocol, FirewallRule.start_port)
    statement = statement.order_by(FirewallRule.created, FirewallRule.id)
    return listing.fetch(call, statement, params, lambda rows: list(show_firewall_rules(call.session, rows)))


@jobs.completion("firewall.activate")
def _activated(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    rule = firewall.activate(session, rule_id)
    return show_firewall_rules(session, [rule])[0] if rule is not None else Success()


@jobs.reversal("firewall.activate")
def _not_activated(session: Session, job: AsyncJob, *, rule_id: str) -> None:
    rule = session.get(FirewallRule, rule_id)
    if rule is not None:
        firewall.revoke(session, [rule])
        firewall.remove(session, rule_id)


@jobs.completion("firewall.show")
def _shown(session: Session, job: AsyncJob, *, rule_id: str) -> FirewallResponse:
    return show_firewall_rules(session, [session.get_one(FirewallRule, rule_id)])[0]


@jobs.completion("firewall.deleted")
def _deleted(session: Session, job: AsyncJob, *, rule_id: str) -> Response:
    remove_tags(session, "FirewallRule", rule_id)
    firewall.remove(session, rule_id)
    return Success()
