"""Stickiness and health check policies of load balancer rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.balancing import changed
from controlplane.api.call import Call
from controlplane.api.command import Async, Entry, ListParams, Params, command, param
from controlplane.api.views.loadbalancers import (
    HealthCheckPoliciesResponse,
    StickinessPoliciesResponse,
    show_health_checks,
    show_stickiness,
)
from controlplane.errors import ParameterError, unknown_id
from controlplane.network import loadbalancing, stickiness
from controlplane.store.models import LoadBalancer, LoadBalancerPolicy
from router.services.loadbalancer.model import HealthCheck

_KINDS = {"Stickiness": "stickiness", "HealthCheck": "health check"}


class PolicyParameter(Entry):
    """``param[n].name`` and ``param[n].value``; a flag needs no value."""

    name: str = param("name of the parameter")
    value: str = param("value of the parameter", default="")


class CreateLBStickinessPolicy(Params):
    lbruleid: str = param("id of the load balancer rule", entity="LoadBalancer")
    name: str = param("name of the policy")
    methodname: str = param("LbCookie, AppCookie or SourceBased")
    description: str | None = param("description of the policy", default=None, length=4096)
    param: list[PolicyParameter] | None = param("parameters of the method", default=None)


class CreateLBHealthCheckPolicy(Params):
    lbruleid: str = param("id of the load balancer rule", entity="LoadBalancer")
    description: str | None = param("description of the policy", default=None, length=4096)
    pingpath: str | None = param(
        "path that must answer an HTTP GET with 2xx or 3xx; without one, members are only connected to",
        default=None,
        length=1024,
    )
    responsetimeout: int = param("seconds that a member has for its answer", default=2)
    intervaltime: int = param("seconds between two checks", default=5)
    healthythreshold: int = param("checks in a row after which a member is up", default=2)
    unhealthythreshold: int = param("checks in a row after which a member is down", default=2)


class PolicyId(Params):
    id: str = param("id of the policy")


class ListPolicies(ListParams):
    lbruleid: str | None = param("policies of this rule", default=None, entity="LoadBalancer")
    id: str | None = param("id of the policy", default=None)


def _find(call: Call, id: str, kind: str) -> tuple[LoadBalancer, LoadBalancerPolicy]:
    policy = call.session.get(LoadBalancerPolicy, id)
    if policy is None or policy.kind != kind:
        raise unknown_id("id", id)
    return call.lookup(LoadBalancer, policy.rule_id), policy


def _create(call: Call, rule: LoadBalancer, policy: LoadBalancerPolicy) -> Async:
    loadbalancing.add_policy(call.session, rule, policy)
    return changed(
        call,
        rule,
        f"adding a {_KINDS[policy.kind]} policy to load balancer rule {rule.name}",
        show=policy.kind,
        added=("policy", [policy.id]),
        instance=("LoadBalancerPolicy", policy.id),
    )


def _delete(call: Call, id: str, kind: str) -> Async:
    rule, policy = _find(call, id, kind)
    policy.state = "Revoke"
    text = f"deleting the {_KINDS[kind]} policy of load balancer rule {rule.name}"
    return changed(call, rule, text, revoked=("policy", [policy.id]))


def _list(
    call: Call, params: ListPolicies, kind: str, show: Callable[[LoadBalancer, list[LoadBalancerPolicy]], Any]
) -> tuple[int, list[Any]]:
    """One answer for the rule that is asked for, or that the policy is of."""
    if params.id is not None:
        rule, policy = _find(call, params.id, kind)
        return listing.cut(call, [show(rule, [policy])], params)
    if params.lbruleid is None:
        raise ParameterError("lbruleid or id must be given")
    rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
    statement = select(LoadBalancerPolicy).where(LoadBalancerPolicy.rule_id == rule.id, LoadBalancerPolicy.kind == kind)
    found = list(call.session.scalars(statement.order_by(LoadBalancerPolicy.created)))
    return listing.cut(call, [show(rule, found)], params)


@command(
    "createLBStickinessPolicy",
    description="Keeps the clients of a load balancer rule with their VMs",
    params=CreateLBStickinessPolicy,
    response=StickinessPoliciesResponse,
    object_name="stickinesspolicies",
    response_key="createLBStickinessPolicy",
    is_async=True,
    creates=True,
    event="LB.STICKINESSPOLICY.CREATE",
)
def create_stickiness_policy(call: Call, params: CreateLBStickinessPolicy) -> Async:
    rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
    given = {entry.name.strip().lower(): entry.value for entry in params.param or ()}
    method = stickiness.method_named(params.methodname)
    stickiness.parse(method, given, rule.id)
    policy = LoadBalancerPolicy(
        kind="Stickiness", name=params.name, method=method, description=params.description, params=given
    )
    return _create(call, rule, policy)


@command(
    "deleteLBStickinessPolicy",
    description="Deletes a stickiness policy",
    params=PolicyId,
    response_key="deleteLBstickinessrruleresponse",
    is_async=True,
    event="LB.STICKINESSPOLICY.DELETE",
)
def delete_stickiness_policy(call: Call, params: PolicyId) -> Async:
    return _delete(call, params.id, "Stickiness")


@command(
    "listLBStickinessPolicies",
    description="Lists the stickiness policies of a load balancer rule",
    params=ListPolicies,
    response=StickinessPoliciesResponse,
    object_name="stickinesspolicies",
)
def list_stickiness_policies(call: Call, params: ListPolicies) -> tuple[int, list[StickinessPoliciesResponse]]:
    return _list(call, params, "Stickiness", show_stickiness)


@command(
    "createLBHealthCheckPolicy",
    description="Says how a load balancer rule finds out whether its VMs answer",
    params=CreateLBHealthCheckPolicy,
    response=HealthCheckPoliciesResponse,
    object_name="healthcheckpolicies",
    is_async=True,
    creates=True,
    event="LB.HEALTHCHECKPOLICY.CREATE",
)
def create_health_check_policy(call: Call, params: CreateLBHealthCheckPolicy) -> Async:
    rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
    names = {
        "path": "pingpath",
        "timeout": "responsetimeout",
        "interval": "intervaltime",
        "healthy": "healthythreshold",
        "unhealthy": "unhealthythreshold",
    }
    try:
        check = HealthCheck.model_validate({field: getattr(params, name) for field, name in names.items()})
    except ValidationError as error:
        first = error.errors()[0]
        raise ParameterError(f"{names[str(first['loc'][0])]}: {first['msg']}") from None
    policy = LoadBalancerPolicy(kind="HealthCheck", description=params.description, params=check.model_dump())
    return _create(call, rule, policy)


@command(
    "deleteLBHealthCheckPolicy",
    description="Deletes a health check policy; the rule's VMs are then only connected to",
    params=PolicyId,
    is_async=True,
    event="LB.HEALTHCHECKPOLICY.DELETE",
)
def delete_health_check_policy(call: Call, params: PolicyId) -> Async:
    return _delete(call, params.id, "HealthCheck")


@command(
    "listLBHealthCheckPolicies",
    description="Lists the health check policies of a load balancer rule",
    params=ListPolicies,
    response=HealthCheckPoliciesResponse,
    object_name="healthcheckpolicies",
)
def list_health_check_policies(call: Call, params: ListPolicies) -> tuple[int, list[HealthCheckPoliciesResponse]]:
    return _list(call, params, "HealthCheck", show_health_checks)
