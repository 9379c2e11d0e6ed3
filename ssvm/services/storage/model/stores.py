"""Stores: where objects are kept. An object is a file with a path; who reads it sees all of it or nothing."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_serializer

from appliance.schema.types import Address, Frozen, Port, RuleId

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"


def _object_path(value: str) -> str:
    if len(value) > 512 or not re.fullmatch(rf"{_SEGMENT}(/{_SEGMENT})*", value):
        raise ValueError(
            "must be names of letters, digits, '.', '_', '-' joined by '/', none beginning with '.' or '-', "
            "as in template/tmpl/2/201/disk.qcow2"
        )
    return value


def _directory(value: str) -> str:
    if not re.fullmatch(r"/[^\0\n]+", value) or "/../" in f"{value}/":
        raise ValueError("must be an absolute path, as in /var/lib/gatehouse/store")
    return value


def _export(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9/._@+-]*", value) or "/../" in f"{value}/":
        raise ValueError("must be an absolute path of letters, digits and '/._@+-', as in /export/secondary")
    return value


def _endpoint(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._/-]*)?", value):
        raise ValueError("must be a URL of host, port and path, as in https://s3.example:8443")
    return value


#: path of an object in a store, relative, e.g. ``template/tmpl/2/201/disk.qcow2``
ObjectPath = Annotated[str, AfterValidator(_object_path)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9._:@-]+$")]


class _Secretive(Frozen):
    secret: SecretStr

    @field_serializer("secret", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        # a document on its way to the appliance must hold it; repr() and logs do not
        return value.get_secret_value()


class DirectoryStore(Frozen):
    """A directory of the appliance: its own disk, or what the hypervisor mounted there."""

    kind: Literal["directory"] = "directory"
    id: RuleId
    path: Annotated[str, AfterValidator(_directory)]


class NfsStore(Frozen):
    """An NFS export, which the appliance mounts: ``mount -t nfs4 <server>:<export>`` (RFC 8881, AUTH_SYS).

    The appliance's root must be root there (``no_root_squash``), or the directory belong to Debian's user ``backup``
    (34). A server that does not answer holds nothing else up: the store is reported as not healthy until it does.

    Not 4.2 unless asked for: Linux reads by READ_PLUS then (RFC 7862), which nfs-ganesha answers with errors, or zeros
    in place of data. Whatever the version, a store that does not give back what was written is not used.
    """

    kind: Literal["nfs"] = "nfs"
    id: RuleId
    server: Address
    export: Annotated[str, AfterValidator(_export)]
    port: Port = 2049
    version: Literal["4.0", "4.1", "4.2"] = "4.1"


class S3Store(_Secretive):
    """A bucket behind the S3 API; ``secret`` is the secret access key. Objects are below ``prefix``."""

    kind: Literal["s3"] = "s3"
    id: RuleId
    endpoint: Endpoint
    bucket: Name
    region: Name = "us-east-1"
    access_key: Name
    prefix: ObjectPath | None = None


class SwiftStore(_Secretive):
    """A container of OpenStack Swift behind its v1 authentication: ``endpoint`` is the authentication URL.

    ``user`` is ``account:user`` and ``secret`` the key. Objects above a gibibyte are kept in segments beside them.
    """

    kind: Literal["swift"] = "swift"
    id: RuleId
    endpoint: Endpoint
    container: Name
    user: Name


Store = Annotated[DirectoryStore | NfsStore | S3Store | SwiftStore, Field(discriminator="kind")]
