"""Certificates that system VMs show to browsers (guide: chapter 16.3.2)."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from controlplane import jobs
from controlplane.api.call import Call
from controlplane.api.command import ROOT, Async, Params, Response, command, param, shown
from controlplane.errors import ParameterError
from controlplane.store.models import AsyncJob
from controlplane.systemvms import certificates

_DOMAIN = r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]+"


class UploadCustomCertificate(Params):
    certificate: str = param("the certificate in PEM", length=65535)
    domainsuffix: str = param("domain that the certificate is for, e.g. console.example.com for *.console.example.com")
    id: int | None = param(
        "place of the certificate in the chain, the root's is 1; left out for the site's own", default=None, minimum=1
    )
    name: str | None = param("name of a certificate of the chain; left out for the site's own", default=None)
    privatekey: str | None = param(
        "key of the site's own certificate: PKCS#8 in PEM, without a password", default=None, length=65535, secret=True
    )


class CustomCertificateResponse(Response):
    """What became of an uploaded certificate."""

    message: str = shown("what was done, and what is still missing", ...)


@command(
    "uploadCustomCertificate",
    description="Uploads a certificate for console proxies and secondary storage VMs: first those of its chain, the "
    "root's first, then the site's own with its key, which is shown from then on",
    params=UploadCustomCertificate,
    response=CustomCertificateResponse,
    object_name="customcertificate",
    roles=ROOT,
    is_async=True,
    event="UPLOAD.CUSTOM.CERTIFICATE",
)
def upload_custom_certificate(call: Call, params: UploadCustomCertificate) -> Async:
    suffix = params.domainsuffix.lower().removeprefix("*.").rstrip(".")
    if not re.fullmatch(_DOMAIN, suffix):
        raise ParameterError("domainsuffix: a domain name such as console.example.com is needed")
    if params.privatekey is not None:
        if params.name is not None:
            raise ParameterError("name: the site's own certificate, the one with privatekey, has none")
        certificates.upload_site(call.session, call.runtime.secrets, params.certificate, params.privatekey, suffix)
        message = f"the certificate for {suffix} is shown by console proxies known by names below it"
        return Async(
            None,
            None,
            f"uploading the certificate for {suffix}",
            workflow="show_certificates",
            completion="certificate.shown",
            completion_arguments={"message": message},
        )
    if not params.name or params.id is None:
        raise ParameterError("name and id are needed for a certificate of the chain, privatekey for the site's own")
    certificates.upload_link(call.session, params.name, params.id, params.certificate, suffix)
    message = f"{params.name} was taken into the chain; it counts when the site's own certificate is uploaded"
    return Async(
        None,
        None,
        f"uploading certificate {params.name}",
        completion="certificate.shown",
        arguments={"message": message},
    )


@jobs.completion("certificate.shown")
def _shown(session: Session, job: AsyncJob, *, message: str) -> Response:
    return CustomCertificateResponse(message=message)
