"""The document of a secondary-storage VM."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from appliance.services.interfaces.model import Interfaces, Route
from appliance.services.shaping.model import ShapedInterface, Shaping
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
        **({"shaping": shaping} if (shaping := _shaping(intent)) is not None else {}),
        "storage": _storage(intent, memo),
    }
    head = {"kind": "ssvm", "version": 1, "id": intent.appliance_id, "generation": intent.generation}
    return extend(json.dumps(head).encode(), state=object_of(state))


def _interfaces(intent: SsvmIntent) -> Interfaces:
    """With routes to what is not public: by the control network, through the host; to stores by the storage network."""
    control, storage = IPv4Address(CONTROL_ADDRESS), intent.storage
    gateways = {IPv4Network(site): control for site in intent.internal_sites}
    for server in map(IPv4Network, intent.storage_networks):
        if storage is None:
            gateways[server] = control
        elif not server.subnet_of(storage.subnet):
            gateways[server] = IPv4Address(storage.gateway)
    routes = tuple(Route(destination=site, gateway=gateway) for site, gateway in gateways.items())
    made = interfaces_of(intent)
    nics = tuple(
        nic.model_copy(update={"addresses": (IPv4Interface(f"{storage.address}/{storage.netmask}"),)})
        if storage is not None and nic.name == _storage_name(intent)
        else nic
        for nic in made.interfaces
    )
    return made.model_copy(update={"interfaces": nics, "routes": routes})


def _storage_name(intent: SsvmIntent) -> str | None:
    """The name of the NIC on the storage network."""
    storage = intent.storage
    return next((nic.name for nic in intent.nics if storage is not None and nic.segment == storage.segment), None)


def _shaping(intent: SsvmIntent) -> bytes | None:
    name, rate = _storage_name(intent), intent.storage_rate
    return dump(Shaping(interfaces=(ShapedInterface(interface=name, mbit=rate),))) if name and rate else None


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
