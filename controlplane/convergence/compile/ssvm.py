"""The document of a secondary-storage VM."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from appliance.services.interfaces.model import Interfaces, Route
from controlplane.convergence.compile.encoding import dump, extend, object_of, reasons
from controlplane.convergence.compile.interfaces import interfaces_of
from controlplane.convergence.compile.memo import CompileError, Memo
from controlplane.convergence.intent.ssvm import Job, Link, SsvmIntent, Store
from controlplane.hypervisors.bridges import CONTROL_ADDRESS
from ssvm.services.storage.model.jobs import Convert, Copy, Delete, Download, Upload
from ssvm.services.storage.model.links import Link as DocumentLink
from ssvm.services.storage.model.section import Storage
from ssvm.services.storage.model.stores import DirectoryStore, NfsStore, S3Store, SwiftStore

_Job = Download | Upload | Copy | Convert | Delete
_JOB: TypeAdapter[_Job] = TypeAdapter(Annotated[_Job, Field(discriminator="kind")])
_Store = DirectoryStore | NfsStore | S3Store | SwiftStore
_STORE: TypeAdapter[_Store] = TypeAdapter(Annotated[_Store, Field(discriminator="kind")])


def compile_ssvm(intent: SsvmIntent, memo: Memo) -> bytes:
    """The SsvmDocument (JSON, UTF-8) of one SSVM. Raises CompileError naming the id of a job, link or store."""
    state = {
        "hostname": json.dumps(intent.name).encode(),
        "interfaces": dump(_interfaces(intent)),
        "storage": _storage(intent, memo),
    }
    head = {"kind": "ssvm", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return extend(json.dumps(head).encode(), state=object_of(state))


def _interfaces(intent: SsvmIntent) -> Interfaces:
    """With routes to what is not public: by the control network, through the host."""
    inner = (*intent.internal_sites, *intent.storage_networks)
    routes = tuple(Route(destination=IPv4Network(site), gateway=IPv4Address(CONTROL_ADDRESS)) for site in inner)
    return interfaces_of(intent).model_copy(update={"routes": routes})


def _storage(intent: SsvmIntent, memo: Memo) -> bytes:
    fields: dict[str, Any] = {
        "resolvers": intent.resolvers,
        "origins": intent.origins,
        "internal_sites": intent.internal_sites,
        "storage_networks": intent.storage_networks,
        "proxy": intent.proxy,
        "threads": intent.threads,
        "bandwidth": intent.bandwidth,
    }
    if intent.certificate is not None:
        shown = intent.certificate
        fields["certificate"] = {"certificate": shown.certificate, "key": shown.key, "chain": shown.chain}
    if intent.peer is not None:
        fields["peer"] = {"certificate": intent.peer.certificate, "key": intent.peer.key, "ca": intent.peer.ca}
    try:
        storage = Storage.model_validate(fields)
    except ValidationError as error:
        raise CompileError(intent.appliance_id, reasons(error)) from error
    head = storage.model_dump_json(exclude_none=True, exclude={"stores", "jobs", "links"}).encode()
    return extend(
        head,
        stores=memo.join("stores", intent.stores, _store),
        jobs=memo.join("jobs", intent.jobs, _job),
        links=memo.join("links", intent.links, _link),
    )


def _store(row: Store) -> _Store:
    secret = {} if row.secret is None else {"secret": row.secret}
    return _STORE.validate_json(json.dumps({"id": row.id, **json.loads(row.fields), **secret}))


def _job(row: Job) -> _Job:
    return _JOB.validate_json(json.dumps({"id": row.id, **json.loads(row.fields)}))


def _link(row: Link) -> DocumentLink:
    return DocumentLink.model_validate(row._asdict())
