"""Load balancer rules, their policies, members and certificates as the API shows them; ports are texts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.api.tagging import TagResponse, tags_of
from controlplane.api.views.vms import VirtualMachineResponse, show_vms
from controlplane.network import loadbalancing
from controlplane.store.models import (
    Account,
    Appliance,
    LoadBalancer,
    LoadBalancerCertificate,
    LoadBalancerMember,
    LoadBalancerPolicy,
    SslCertificate,
)
from router.services.loadbalancer.model import HealthCheck, Member


class LoadBalancerResponse(OwnedResponse):
    """A load balancer rule."""

    id: str = shown("id of the rule", ...)
    name: str = shown("name of the rule", ...)
    description: str | None = shown("description of the rule")
    algorithm: str = shown("roundrobin, leastconn or source", ...)
    protocol: str = shown("tcp, tcp-proxy, http or ssl", ...)
    publicip: str = shown("the public address", ...)
    publicipid: str = shown("id of the public address", ...)
    publicport: str = shown("the public port", ...)
    privateport: str = shown("the port of the VMs", ...)
    cidrlist: str = shown("sources, comma-joined", "")
    networkid: str = shown("id of the network", ...)
    zoneid: str = shown("id of the zone", ...)
    zonename: str = shown("name of the zone", ...)
    state: str = shown("Add, Active or Revoke", ...)
    fordisplay: bool = shown("it is shown to its owner", True)
    tags: list[TagResponse] = shown("its tags", [])


class LoadBalancerInstanceResponse(VirtualMachineResponse):
    """A VM of a rule; one with several addresses there is shown with each."""

    lbvmipaddress: str | None = shown("the address that connections are sent to")
    servicestate: str | None = shown("Up or Down by the load balancer's health checks, when it has looked")


class LoadBalancerAddressesResponse(Response):
    """A VM of a rule with all of its addresses there; ``lbvmips`` asks for it."""

    loadbalancerruleinstance: LoadBalancerInstanceResponse = shown("the VM", ...)
    lbvmipaddresses: list[str] = shown("the addresses that connections are sent to", [])


class StickinessPolicyResponse(Response):
    """A stickiness policy."""

    id: str = shown("id of the policy", ...)
    name: str = shown("name of the policy", ...)
    methodname: str = shown("LbCookie, AppCookie or SourceBased", ...)
    description: str | None = shown("description of the policy")
    params: dict[str, str] = shown("its parameters", {})
    state: str = shown("Add, Active or Revoke", ...)
    fordisplay: bool = shown("it is shown to its owner", True)


class StickinessPoliciesResponse(OwnedResponse):
    """The stickiness policies of a rule."""

    lbruleid: str = shown("id of the rule", ...)
    zoneid: str = shown("id of the zone", ...)
    stickinesspolicy: list[StickinessPolicyResponse] = shown("the policies", [])


class HealthCheckPolicyResponse(Response):
    """A health check policy."""

    id: str = shown("id of the policy", ...)
    description: str | None = shown("description of the policy")
    pingpath: str | None = shown("path of the HTTP request; without one, members are only connected to")
    responsetime: int = shown("seconds that a member has for its answer", ...)
    healthcheckinterval: int = shown("seconds between two checks", ...)
    healthcheckthresshold: int = shown("checks in a row after which a member is up", ...)
    unhealthcheckthresshold: int = shown("checks in a row after which a member is down", ...)
    state: str = shown("Add, Active or Revoke", ...)
    fordisplay: bool = shown("it is shown to its owner", True)


class HealthCheckPoliciesResponse(OwnedResponse):
    """The health check policies of a rule."""

    lbruleid: str = shown("id of the rule", ...)
    zoneid: str = shown("id of the zone", ...)
    healthcheckpolicy: list[HealthCheckPolicyResponse] = shown("the policies", [])


class SslCertResponse(OwnedResponse):
    """A certificate; its private key is never shown."""

    id: str = shown("id of the certificate", ...)
    name: str = shown("name of the certificate", ...)
    certificate: str = shown("the certificate, PEM", ...)
    certchain: str | None = shown("the certificates above it, PEM")
    fingerprint: str = shown("its SHA-256 fingerprint", ...)
    loadbalancerrulelist: list[str] = shown("ids of the rules that use it", [])


def show_rules(session: Session, rules: Sequence[LoadBalancer]) -> list[LoadBalancerResponse]:
    """Load balancer rules."""
    tags = tags_of(session, "LoadBalancer", [rule.id for rule in rules])
    return [
        LoadBalancerResponse(
            **owned_by(rule.network.account),
            id=rule.id,
            name=rule.name,
            description=rule.description,
            algorithm=rule.algorithm,
            protocol=rule.protocol,
            publicip=rule.public_ip.address,
            publicipid=rule.public_ip_id,
            publicport=str(rule.public_port),
            privateport=str(rule.private_port),
            cidrlist=",".join(rule.source_cidrs),
            networkid=rule.network_id,
            zoneid=rule.network.zone_id,
            zonename=rule.network.zone.name,
            state=rule.state,
            tags=tags.get(rule.id, []),
        )
        for rule in rules
    ]


def show_members(session: Session, rule: LoadBalancer) -> list[LoadBalancerInstanceResponse]:
    """The VMs of a rule, with what the router's health checks say of them."""
    statement = select(LoadBalancerMember).where(
        LoadBalancerMember.rule_id == rule.id, LoadBalancerMember.state != "Revoke"
    )
    members = list(session.scalars(statement.order_by(LoadBalancerMember.created, LoadBalancerMember.id)))
    router = session.scalars(
        select(Appliance)
        .where(Appliance.network_id == rule.network_id, Appliance.role == "router", Appliance.removed.is_(None))
        .order_by(Appliance.created.desc())
    ).first()
    states = ((router.balanced or {}) if router is not None else {}).get(rule.id, {})
    vms = show_vms(session, [member.nic.vm for member in members])
    answers = []
    for member, vm in zip(members, vms, strict=True):
        address = member.address or member.nic.address
        name = Member.model_validate({"address": address, "port": rule.private_port}).name
        fields = {field: getattr(vm, field) for field in type(vm).model_fields}
        state = states.get(name)
        answers.append(LoadBalancerInstanceResponse(**fields, lbvmipaddress=address, servicestate=state))
    return answers


def with_addresses(members: Sequence[LoadBalancerInstanceResponse]) -> list[LoadBalancerAddressesResponse]:
    """The same members, each VM once. One of whose addresses answers is up."""
    found: dict[str, LoadBalancerAddressesResponse] = {}
    for member in members:
        shown_vm = found.setdefault(member.id, LoadBalancerAddressesResponse(loadbalancerruleinstance=member))
        if member.lbvmipaddress is not None:
            shown_vm.lbvmipaddresses.append(member.lbvmipaddress)
        if member.servicestate == "Up":
            shown_vm.loadbalancerruleinstance = member
    return list(found.values())


def show_stickiness(rule: LoadBalancer, policies: Sequence[LoadBalancerPolicy]) -> StickinessPoliciesResponse:
    """A rule's stickiness policies."""
    return StickinessPoliciesResponse(
        **owned_by(rule.network.account),
        lbruleid=rule.id,
        zoneid=rule.network.zone_id,
        stickinesspolicy=[
            StickinessPolicyResponse(
                id=policy.id,
                name=policy.name or "",
                methodname=policy.method or "",
                description=policy.description,
                params=policy.params,
                state=policy.state,
            )
            for policy in policies
        ],
    )


def show_health_checks(rule: LoadBalancer, policies: Sequence[LoadBalancerPolicy]) -> HealthCheckPoliciesResponse:
    """A rule's health check policies."""
    shown_policies = []
    for policy in policies:
        check = HealthCheck.model_validate(policy.params)
        shown_policies.append(
            HealthCheckPolicyResponse(
                id=policy.id,
                description=policy.description,
                pingpath=check.path,
                responsetime=check.timeout,
                healthcheckinterval=check.interval,
                healthcheckthresshold=check.healthy,
                unhealthcheckthresshold=check.unhealthy,
                state=policy.state,
            )
        )
    return HealthCheckPoliciesResponse(
        **owned_by(rule.network.account),
        lbruleid=rule.id,
        zoneid=rule.network.zone_id,
        healthcheckpolicy=shown_policies,
    )


def show_policies(
    session: Session, rule: LoadBalancer, kind: str
) -> StickinessPoliciesResponse | HealthCheckPoliciesResponse:
    """A rule's policies of one kind."""
    found = loadbalancing.policies(session, [rule.id], kind)
    return show_stickiness(rule, found) if kind == "Stickiness" else show_health_checks(rule, found)


def show_certificates(session: Session, certificates: Sequence[SslCertificate]) -> list[SslCertResponse]:
    """Certificates, with the rules that use them."""
    used: dict[str, list[str]] = {}
    for row in session.execute(
        select(LoadBalancerCertificate.certificate_id, LoadBalancerCertificate.rule_id).where(
            LoadBalancerCertificate.certificate_id.in_([one.id for one in certificates]),
            LoadBalancerCertificate.state != "Revoke",
        )
    ):
        used.setdefault(row.certificate_id, []).append(row.rule_id)
    return [
        SslCertResponse(
            **owned_by(session.get_one(Account, one.account_id)),
            id=one.id,
            name=one.name,
            certificate=one.certificate,
            certchain=one.chain,
            fingerprint=one.fingerprint,
            loadbalancerrulelist=sorted(used.get(one.id, [])),
        )
        for one in certificates
    ]
