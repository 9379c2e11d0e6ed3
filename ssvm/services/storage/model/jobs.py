"""Jobs: what is to be done with an object, once. How they go is in the report (report.py).

A job is in the document from the moment it is wanted until its outcome was taken in. While it is there it is worked on
until it is ``done`` or ``failed``, over restarts and kills of the appliance; done jobs are not done again. One that
leaves the document before its end is cancelled and its parts are removed; a finished object stays (``Delete`` removes
it). A failed job is tried again when its ``attempt`` is raised.

Ids are the control plane's, unique for ever: an appliance that sees one again knows its outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from appliance.schema.problems import Problem, refuse
from appliance.schema.types import Frozen, Integer, RuleId
from appliance.schema.web import Digest, Utc
from ssvm.services.storage.model.stores import ObjectPath

#: formats of images; ``raw`` is a disk as it is, ``ova`` an OVF package (tar) whose disks are VMDK
Format = Literal["qcow2", "raw", "vmdk", "vhd", "vhdx", "vdi", "iso", "ova"]
#: length of each algorithm's digest in hexadecimal digits
DIGESTS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}


def _checksum(value: str) -> str:
    algorithm, _, digest = value.partition(":")
    if algorithm not in DIGESTS or not re.fullmatch(r"[0-9a-f]+", digest) or len(digest) != DIGESTS[algorithm]:
        raise ValueError(f"must be an algorithm of {', '.join(DIGESTS)}, ':' and the digest in lower case hexadecimal")
    return value


def _url(value: str) -> str:
    if re.match(r"ftps?:", value):
        raise ValueError(
            "FTP is not fetched: it has no checks of what arrives and opens ports; offer it by HTTP or HTTPS"
        )
    if len(value) > 2048 or not re.fullmatch(r"https?://[^/\s?#]+[^\s#]*", value) or not value.isascii():
        raise ValueError("must be an http or https URL in ASCII, with a host and without a fragment")
    if "@" in value.split("/")[2]:
        raise ValueError("must not hold a user name or password: it is shown to users")
    return value


#: ``sha256:<hexadecimal>``; CloudStack's ``{SHA-256}...`` is translated by whoever compiles the document
Checksum = Annotated[str, AfterValidator(_checksum)]
Url = Annotated[str, AfterValidator(_url)]
#: bytes
Bytes = Annotated[Integer, Field(ge=1, le=1 << 50)]


class _Job(Frozen):
    """``store`` and ``path``: the object that the job makes, or removes."""

    id: RuleId
    store: RuleId
    path: ObjectPath
    #: raise it to have a failed job done again
    attempt: Annotated[Integer, Field(ge=1)] = 1


class _Intake(_Job):
    """An image from outside. It is checked before it is an object: checksum, size, format and what hides in it.

    ``checksum`` and ``size_limit`` are of the file as it comes; ``virtual_limit`` is of the disk that a guest would
    see, of the sum of an OVA's disks, and of a compressed file unpacked.
    """

    format: Format
    checksum: Checksum | None = None
    size_limit: Bytes
    virtual_limit: Bytes = 1 << 42
    #: keep it as qcow2, compressed with zstd; None: as it came, unpacked
    convert: Literal["qcow2"] | None = None

    @model_validator(mode="after")
    def _check(self) -> _Intake:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        if self.convert is not None and self.format in ("iso", "ova"):
            yield ("convert",), f"{self.format} is kept as it is; leave convert out"


class Download(_Intake):
    """Fetch ``url`` by HTTP or HTTPS. Compressed files (gzip, bzip2, xz, zstd, told by content) are unpacked."""

    kind: Literal["download"] = "download"
    url: Url


class Upload(_Intake):
    """Wait for somebody to send the file, once, until ``expires``.

    ``POST https://<appliance>/upload/<job id>``, body ``multipart/form-data`` with one file or the file itself, header
    ``X-signature``: the token whose SHA-256 ``token_hash`` is (the answers of getUploadParamsFor... hold it; X-metadata
    and X-expires may be sent and are not read). One request at a time; one that breaks may be sent again, a complete
    one uses the link up. Pages of ``Storage.origins`` may do it (CORS).
    """

    kind: Literal["upload"] = "upload"
    token_hash: Digest
    expires: Utc


class Copy(_Job):
    """Fetch an object from another SSVM by mutual TLS, from a ``Link`` there whose ``peer`` is this appliance.

    What comes must have the checksum, size and format that the source's report had for it (``Result``:
    ``object_checksum``, ``physical_size``, ``format``).
    """

    kind: Literal["copy"] = "copy"
    #: ``https://<address of the other>:<its peer_port>/peer/<link id>``
    url: Annotated[str, Field(pattern=r"^https://[0-9.]+:[1-9][0-9]{0,4}/peer/[A-Za-z0-9._:-]{1,64}$")]
    #: appliance id of the other, for which its certificate must be
    peer: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    checksum: Checksum
    size: Bytes
    format: Format
    virtual_limit: Bytes = 1 << 42


class Convert(_Job):
    """Make an object of another one, in the same or another store: template of a snapshot, volume, other store.

    ``target_format`` None copies the bytes.
    """

    kind: Literal["convert"] = "convert"
    source_store: RuleId
    source_path: ObjectPath
    format: Format
    target_format: Literal["qcow2", "raw", "vmdk", "vhd"] | None = None
    virtual_limit: Bytes = 1 << 42


class Delete(_Job):
    """Remove an object; done as well when there is none."""

    kind: Literal["delete"] = "delete"


Job = Annotated[Download | Upload | Copy | Convert | Delete, Field(discriminator="kind")]
