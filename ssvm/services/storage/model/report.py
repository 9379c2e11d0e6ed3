"""What an SSVM reports: ``Report.model_validate(status.reports["storage"])``."""

from __future__ import annotations

from typing import Literal

from appliance.schema.types import Frozen
from ssvm.services.storage.model.jobs import Format

#: ``waiting`` for a thread, or for the upload to begin; ``retrying`` after a lost connection, until the next try
State = Literal["waiting", "running", "retrying", "done", "failed"]
#: what a running job does now
Phase = Literal["", "receiving", "unpacking", "checking", "converting", "storing"]
#: why a job failed: the source's address may not be reached; it cannot be reached; its answer is of no use; the
#: content has another checksum; is too large; is not of the format, or unsafe; the store is full; the store does not
#: work; nobody uploaded in time; the appliance's own fault
Cause = Literal[
    "refused-address",
    "connection",
    "http",
    "checksum",
    "size",
    "format",
    "store-full",
    "store",
    "expired",
    "internal",
]


class Failure(Frozen):
    """``message`` is a sentence for users: what is wrong and what to do; it holds no internal addresses."""

    cause: Cause
    message: str


class Result(Frozen):
    """The object that a job made."""

    #: of the file as it came, by the algorithm that the job asked for, else sha256: ``sha256:<hexadecimal>``
    checksum: str
    #: digest (SHA-256 or stronger) and bytes of the object as it is in the store: what a ``Copy`` of it must have
    object_checksum: str
    physical_size: int
    format: Format
    #: bytes of the disk that a guest sees
    virtual_size: int


class JobReport(Frozen):
    """One job of the document. ``received``, ``total``: bytes of the file as it comes; ``rate``: bytes a second."""

    id: str
    attempt: int
    state: State
    phase: Phase = ""
    received: int = 0
    #: None while nobody knows
    total: int | None = None
    percent: int = 0
    rate: int = 0
    seconds_left: int | None = None
    #: connections that were lost, and why the last one was
    lost: int = 0
    detail: str = ""
    failure: Failure | None = None
    result: Result | None = None


class LinkReport(Frozen):
    """One link of the document: how often it was asked for, and bytes sent."""

    id: str
    requests: int
    sent: int


class StoreReport(Frozen):
    """One store of the document. Sizes in bytes; None where the store does not tell (S3 has no size)."""

    id: str
    healthy: bool
    detail: str = ""
    total: int | None = None
    free: int | None = None


class Report(Frozen):
    """All of it, in the order of the document."""

    jobs: tuple[JobReport, ...] = ()
    links: tuple[LinkReport, ...] = ()
    stores: tuple[StoreReport, ...] = ()
    #: jobs at work, and how many there can be: by this the control plane decides on another SSVM
    running: int = 0
    threads: int = 0
