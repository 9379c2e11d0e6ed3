"""TLS certificates for load balancer rules."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.balancing import changed
from controlplane.api.call import Call
from controlplane.api.command import Async, ListParams, Params, Success, command, param
from controlplane.api.views.loadbalancers import SslCertResponse, show_certificates
from controlplane.errors import InUseError, ParameterError, RuleConflictError
from controlplane.network import certificates, loadbalancing
from controlplane.store.models import Account, LoadBalancer, LoadBalancerCertificate, SslCertificate

_PEM = 16384


class UploadSslCert(Params):
    name: str = param("name of the certificate")
    certificate: str = param("the certificate, PEM", length=_PEM)
    privatekey: str = param("its private key, PEM", length=_PEM, secret=True)
    certchain: str | None = param("the certificates above it, PEM", default=None, length=2 * _PEM)
    password: str | None = param("password of the private key", default=None, secret=True)
    account: str | None = param("account that will own it", default=None)
    domainid: str | None = param("domain of that account", default=None, entity="Domain")


class CertId(Params):
    id: str = param("id of the certificate", entity="SslCert")


class ListSslCerts(ListParams):
    certid: str | None = param("id of the certificate", default=None, entity="SslCert")
    accountid: str | None = param("certificates of this account, the caller's unless given", default=None)
    lbruleid: str | None = param("certificates of this rule", default=None, entity="LoadBalancer")


class CertOfRule(Params):
    lbruleid: str = param("id of the load balancer rule", entity="LoadBalancer")


class AssignCert(CertOfRule):
    certid: str = param("id of the certificate", entity="SslCert")
    forced: bool = param("in place of those that the rule has", default=False)


@command(
    "uploadSslCert",
    description="Keeps a certificate and its private key for load balancer rules",
    params=UploadSslCert,
    response=SslCertResponse,
    object_name="sslcert",
    event="SSL.CERT.UPLOAD",
)
def upload_ssl_cert(call: Call, params: UploadSslCert) -> SslCertResponse:
    owner = call.owner(params.account, params.domainid)
    checked = certificates.check(params.certificate, params.privatekey, params.certchain, params.password)
    same = select(SslCertificate.id).where(SslCertificate.account_id == owner.id, SslCertificate.name == params.name)
    if call.session.scalar(same) is not None:
        raise RuleConflictError(f"account {owner.name} has a certificate of the name {params.name} already")
    row = SslCertificate(
        account_id=owner.id,
        name=params.name,
        certificate=checked.certificate,
        chain=checked.chain,
        private_key=call.runtime.secrets.seal(checked.key),
        fingerprint=checked.fingerprint,
    )
    call.session.add(row)
    call.session.flush()
    call.event(f"uploaded certificate {row.name}", ("SslCert", row.id), account_id=owner.id)
    return show_certificates(call.session, [row])[0]


@command(
    "deleteSslCert",
    description="Deletes a certificate that no load balancer rule uses",
    params=CertId,
    event="SSL.CERT.DELETE",
)
def delete_ssl_cert(call: Call, params: CertId) -> Success:
    row = call.lookup(SslCertificate, params.id)
    used = select(LoadBalancerCertificate.rule_id).where(LoadBalancerCertificate.certificate_id == row.id)
    rule = call.session.scalar(used.limit(1))
    if rule is not None:
        raise InUseError(f"certificate {row.name} is in use by load balancer rule {rule}; remove it there first")
    call.session.delete(row)
    call.event(f"deleted certificate {row.name}", ("SslCert", row.id), account_id=row.account_id)
    return Success()


@command(
    "listSslCerts",
    description="Lists certificates",
    params=ListSslCerts,
    response=SslCertResponse,
    object_name="sslcert",
)
def list_ssl_certs(call: Call, params: ListSslCerts) -> tuple[int, list[SslCertResponse]]:
    statement = select(SslCertificate).order_by(SslCertificate.created, SslCertificate.id)
    if params.certid is not None:
        statement = statement.where(SslCertificate.id == call.lookup(SslCertificate, params.certid, "certid").id)
    elif params.lbruleid is not None:
        rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
        used = select(LoadBalancerCertificate.certificate_id).where(
            LoadBalancerCertificate.rule_id == rule.id, LoadBalancerCertificate.state != "Revoke"
        )
        statement = statement.where(SslCertificate.id.in_(used))
    else:
        owner = call.lookup(Account, params.accountid, "accountid") if params.accountid is not None else call.account
        statement = statement.where(SslCertificate.account_id == owner.id)
    statement = listing.search(statement, params.keyword, SslCertificate.name)
    return listing.fetch(call, statement, params, lambda rows: list(show_certificates(call.session, rows)))


@command(
    "assignCertToLoadBalancer",
    description="Has a load balancer rule use a certificate; of several, the name that a client asks for chooses",
    params=AssignCert,
    is_async=True,
    event="LB.CERT.ASSIGN",
)
def assign_cert_to_load_balancer(call: Call, params: AssignCert) -> Async:
    rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
    certificate = call.lookup(SslCertificate, params.certid, "certid")
    if certificate.account_id != rule.network.account_id:
        raise ParameterError(f"certid: certificate {certificate.name} belongs to another account than the rule")
    revoked = loadbalancing.drop_certificates(call.session, rule, certificate.id) if params.forced else []
    # one that the rule has already stays, which is what was asked for
    has = params.forced and loadbalancing.uses(call.session, rule, certificate)
    added = [] if has else [loadbalancing.use_certificate(call.session, rule, certificate).id]
    text = f"adding certificate {certificate.name} to load balancer rule {rule.name}"
    return changed(call, rule, text, added=("certificate", added), revoked=("certificate", revoked))


@command(
    "removeCertFromLoadBalancer",
    description="Takes the certificates from a load balancer rule, which then listens no more",
    params=CertOfRule,
    is_async=True,
    event="LB.CERT.REMOVE",
)
def remove_cert_from_load_balancer(call: Call, params: CertOfRule) -> Async:
    rule = call.lookup(LoadBalancer, params.lbruleid, "lbruleid")
    revoked = loadbalancing.drop_certificates(call.session, rule)
    if not revoked:
        raise ParameterError(f"load balancer rule {rule.id} has no certificate")
    text = f"taking the certificates from load balancer rule {rule.name}"
    return changed(call, rule, text, revoked=("certificate", revoked))
