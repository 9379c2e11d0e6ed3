"""Errors of the public API: HTTP status, CloudStack error code and a text that says what to do."""

from __future__ import annotations

from appliance.errors import GatehouseError


class ApiError(GatehouseError):
    """``code`` is the HTTP status and ``errorcode``; ``cs_code`` is ``cserrorcode``."""

    code = 530
    cs_code = 4250

    def __init__(self, text: str, *, code: int | None = None, cs_code: int | None = None) -> None:
        self.text = text
        self.code = code if code is not None else type(self).code
        self.cs_code = cs_code if cs_code is not None else type(self).cs_code
        super().__init__(text)


class ParameterError(ApiError):
    """A parameter is missing, malformed or does not fit (431)."""

    code, cs_code = 431, 4350


class MalformedError(ApiError):
    """A map parameter that cannot be read (430)."""

    code, cs_code = 430, 4350


class UnauthenticatedError(ApiError):
    """No valid signature or session (401)."""

    code, cs_code = 401, 9999


class PermissionDeniedError(ApiError):
    """The caller's account may not do this (531)."""

    code, cs_code = 531, 4365


class UnsupportedError(ApiError):
    """Understood, but not something this network or zone can do (432)."""

    code, cs_code = 432, 9999


class LimitError(ApiError):
    """A limit of the account is reached (532)."""

    code, cs_code = 532, 4350


class CapacityError(ApiError):
    """No capacity or no free address is left (533)."""

    code, cs_code = 533, 4250


class InUseError(ApiError):
    """Something else still uses it (536)."""

    code, cs_code = 536, 4350


class RuleConflictError(ApiError):
    """The rule overlaps one that is there (537)."""

    code, cs_code = 537, 4350


def unknown_id(parameter: str, value: str) -> ParameterError:
    """The exact text that Go clients take to mean "gone"."""
    return ParameterError(
        f"Invalid parameter {parameter} value={value} due to incorrect long value format, or entity does not exist"
    )
