"""How a job ends other than well."""

from __future__ import annotations

import errno

from appliance.errors import GatehouseError
from ssvm.services.storage.model.report import Cause


class JobFailedError(GatehouseError):
    """The job cannot be done, and trying again would not help. ``message`` is for users."""

    def __init__(self, cause: Cause, message: str) -> None:
        self.cause, self.message = cause, message
        super().__init__(message)


class ConnectionLostError(GatehouseError):
    """A connection failed or ended before its time; a new one may go better."""


class JobCancelledError(GatehouseError):
    """The job is not wanted any more."""


def full(error: OSError) -> JobFailedError | None:
    """The failure that ``error`` means for a job when there is no room left, else None."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobFailedError("store-full", "the store is full; make room in it or add another, then try again")
    return None
