"""The storage section of an SSVM's document (guide: chapters 12, 13.4.2, 13.5, 19.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, SecretStr, field_serializer, model_validator

from appliance.schema.problems import Problem, refuse, repeated
from appliance.schema.types import Address, Frozen, Integer, Network, Port
from appliance.schema.web import Certificate, Origin, Pem
from ssvm.services.storage.model.jobs import Convert, Copy, Job
from ssvm.services.storage.model.links import Link
from ssvm.services.storage.model.stores import Endpoint, Store


class Peer(Frozen):
    """This SSVM's identity towards others (copy between zones).

    The certificate is for servers and clients; its DNS name is ``<appliance id>.peer`` (controlplane/pki.py,
    ``issue_peer``).
    """

    certificate: Pem
    key: SecretStr
    #: who signs the others'
    ca: Pem

    @field_serializer("key", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Storage(Frozen):
    """What an SSVM keeps, fetches and hands out. What comes of it is in ``Status.reports["storage"]`` (report.py)."""

    stores: tuple[Store, ...] = ()
    jobs: tuple[Job, ...] = ()
    links: tuple[Link, ...] = ()

    #: HTTPS for browsers and other clients: uploads and links. Without a certificate neither is served.
    port: Port = 443
    certificate: Certificate | None = None
    #: the control plane's own origins: their pages may send uploads (CORS)
    origins: tuple[Origin, ...] = ()

    #: mutual TLS for other SSVMs
    peer_port: Port = 8443
    peer: Peer | None = None

    #: resolvers for the names in URLs; without any only addresses can be fetched from
    resolvers: tuple[Address, ...] = ()
    #: ``secstorage.allowed.internal.sites``: networks that downloads may reach though they are not public. They are
    #: reached by the management interface (``interfaces.routes`` says how), everything else by the public one.
    internal_sites: tuple[Network, ...] = ()
    #: networks where S3 and Swift stores are, if not public. Downloads do not reach them.
    storage_networks: tuple[Network, ...] = ()
    #: certificates that downloads trust beside the public CAs, PEM
    ca: Pem | None = None
    #: HTTP proxy that downloads go through, e.g. http://10.9.0.3:3128; it must be public or an internal site
    proxy: Endpoint | None = None

    #: downloads, uploads, copies and conversions at the same time; others wait in the order of the document
    threads: Annotated[Integer, Field(ge=1, le=64)] = 10
    #: bytes a second for all downloads and copies together; None: no limit
    bandwidth: Annotated[Integer, Field(ge=65_536)] | None = None
    #: seconds without a byte after which a connection counts as lost
    stall: Annotated[Integer, Field(ge=1, le=3600)] = 60
    #: times that a connection is made anew after one that brought nothing new
    retries: Annotated[Integer, Field(ge=0, le=100)] = 5

    @model_validator(mode="after")
    def _check(self) -> Storage:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        stores = {store.id for store in self.stores}
        for name, entries in (("stores", self.stores), ("jobs", self.jobs), ("links", self.links)):
            for index, identity in repeated([entry.id for entry in entries]):
                yield (name, index, "id"), f"{identity} is given twice"
        for index, (store, path) in repeated([(job.store, job.path) for job in self.jobs]):
            yield ("jobs", index, "path"), f"another job is about {path} of {store}"
        for index, job in enumerate(self.jobs):
            if job.store not in stores:
                yield ("jobs", index, "store"), f"there is no store {job.store}"
            if isinstance(job, Convert) and job.source_store not in stores:
                yield ("jobs", index, "source_store"), f"there is no store {job.source_store}"
            if isinstance(job, Copy) and self.peer is None:
                yield ("jobs", index), "a copy needs this SSVM's certificate in peer"
        for index, link in enumerate(self.links):
            if link.store not in stores:
                yield ("links", index, "store"), f"there is no store {link.store}"
            if (link.token_hash is None) == (link.peer is None):
                yield ("links", index), "give either token_hash or peer"
