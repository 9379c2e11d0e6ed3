"""listApis and listCapabilities: what this API can do, from the declarations themselves."""

from __future__ import annotations

import types
import typing
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import select

from controlplane.api.call import Call
from controlplane.api.command import (
    Command,
    Nothing,
    Params,
    Response,
    Success,
    command,
    commands,
    param,
    shown,
)
from controlplane.errors import ParameterError
from controlplane.storage.settings import LARGEST
from controlplane.store.models import Zone
from controlplane.version import API_VERSION


class ApiParameter(Response):
    name: str = shown("the name of the api parameter", ...)
    description: str = shown("description of the api parameter", ...)
    type: str = shown("parameter type", ...)
    length: int = shown("length of the parameter", ...)
    required: bool = shown("true if this parameter is required for the api request", ...)


class ApiField(Response):
    name: str = shown("the name of the api response field", ...)
    description: str = shown("description of the api response field", ...)
    type: str = shown("response field type", ...)
    response: list[Any] | None = shown("fields of the objects inside")


class ApiResponse(Response):
    name: str = shown("the name of the api command", ...)
    description: str = shown("description of the api", ...)
    isasync: bool = shown("true if api is asynchronous", ...)
    related: str = shown("comma separated related apis", ...)
    params: list[ApiParameter] = shown("the list params the api accepts", ...)
    response: list[ApiField] = shown("api response fields", ...)
    type: str | None = shown("response field type")


class ListApis(Params):
    name: str | None = param("API name", default=None)


@command(
    "listApis",
    description="lists all available apis on the server",
    params=ListApis,
    response=ApiResponse,
    object_name="api",
)
def list_apis(call: Call, params: ListApis) -> tuple[int, list[ApiResponse]]:
    available = [item for item in commands().values() if call.account.type in item.roles]
    related: dict[type[Response], list[str]] = defaultdict(list)
    for item in available:
        related[item.response].append(item.name)
    if params.name is not None:
        available = [item for item in available if item.name.lower() == params.name.lower()]
        if not available:
            raise ParameterError(f"API {params.name} does not exist or is not available to this user")
    shown_apis = [_api(item, related[item.response]) for item in sorted(available, key=lambda item: item.name)]
    return len(shown_apis), shown_apis


def _api(item: Command, related: Iterable[str]) -> ApiResponse:
    others = [] if item.response is Success else sorted(name for name in related if name != item.name)
    return ApiResponse(
        name=item.name,
        description=item.description,
        isasync=item.is_async,
        related=",".join(others),
        params=[
            ApiParameter(
                name=parameter.name,
                description=parameter.description,
                type=parameter.kind,
                length=parameter.length,
                required=parameter.required,
            )
            for parameter in item.parameters.values()
        ],
        response=_job_fields(item) + response_fields(item.response),
    )


def _job_fields(item: Command) -> list[ApiField]:
    """What answers of every command may have beside the object's own fields."""
    if not item.is_async:
        return []
    return [
        ApiField(name="jobid", description="the UUID of the asynchronous job", type="string"),
        ApiField(name="jobstatus", description="the current status of the asynchronous job", type="integer"),
    ]


def response_fields(model: type[Response]) -> list[ApiField]:
    """The fields of a response model, with those of the objects inside."""
    hints = typing.get_type_hints(model)
    fields = []
    for name, info in model.model_fields.items():
        kind, inner = _field_type(hints[name])
        fields.append(
            ApiField(
                name=info.alias or name,
                description=info.description or "",
                type=kind,
                response=response_fields(inner) if inner is not None and inner is not model else None,
            )
        )
    return fields


_SCALARS = {str: "string", int: "integer", bool: "boolean", float: "float", datetime: "date"}


def _field_type(hint: Any) -> tuple[str, type[Response] | None]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [option for option in typing.get_args(hint) if option is not type(None)]
    origin = typing.get_origin(hint)
    if origin is list:
        [item] = typing.get_args(hint)
        return "list", item if isinstance(item, type) and issubclass(item, Response) else None
    if isinstance(hint, type) and issubclass(hint, Response):
        return "responseobject", hint
    return ("map" if origin is dict else _SCALARS.get(hint, "string")), None


class CapabilityResponse(Response):
    securitygroupsenabled: bool = shown("true if security groups support is enabled", False)
    dynamicrolesenabled: bool = shown("true if dynamic role-based api checker is enabled", False)
    cloudstackversion: str = shown("version of the cloud stack", ...)
    userpublictemplateenabled: bool = shown("true if user can create public templates", False)
    supportelb: str = shown("true if region supports elastic load balancer on basic zones", "false", name="supportELB")
    projectinviterequired: bool = shown(
        "If invitation confirmation is required when adding an account to a project", False
    )
    allowusercreateprojects: bool = shown("true if regular user is allowed to create projects", False)
    customdiskofferingminsize: int = shown(
        "minimum size that can be specified when creating a disk from a disk offering with custom size", 1
    )
    customdiskofferingmaxsize: int = shown(
        "maximum size that can be specified when creating a disk from a disk offering with custom size", ...
    )
    regionsecondaryenabled: bool = shown("true if region wide secondary is enabled", False)
    apilimitinterval: int | None = shown("time interval (in seconds) to reset api count")
    apilimitmax: int | None = shown("Max allowed number of api requests within the specified interval")
    kvmsnapshotenabled: bool = shown("true if snapshot is supported for KVM host", True)
    allowuserviewdestroyedvm: bool = shown("true if the user is allowed to view destroyed virtualmachines", False)
    allowuserexpungerecovervm: bool = shown("true if the user can recover and expunge virtualmachines", False)
    defaultuipagesize: int = shown("default page size in the UI", ...)


@command(
    "listCapabilities",
    description="Lists capabilities",
    params=Nothing,
    response=CapabilityResponse,
    object_name="capability",
)
def list_capabilities(call: Call, params: Nothing) -> CapabilityResponse:
    settings, session = call.configuration, call.session
    throttled = settings.get_bool(session, "api.throttling.enabled")
    return CapabilityResponse(
        customdiskofferingmaxsize=settings.get_int(session, LARGEST),
        securitygroupsenabled=session.scalar(select(Zone.id).where(Zone.security_groups).limit(1)) is not None,
        cloudstackversion=API_VERSION,
        apilimitinterval=settings.get_int(session, "api.throttling.interval") if throttled else None,
        apilimitmax=settings.get_int(session, "api.throttling.max") if throttled else None,
        allowuserviewdestroyedvm=settings.get_bool(session, "allow.user.view.destroyed.vm", account=call.account.id),
        allowuserexpungerecovervm=settings.get_bool(session, "allow.user.expunge.recover.vm", account=call.account.id),
        defaultuipagesize=min(20, settings.get_int(session, "default.page.size")),
    )
