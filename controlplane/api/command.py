"""Declaring API commands: typed parameters, response models, who may call, and what a handler may answer.

A command is a function in ``controlplane/api/commands/``::

    class DeleteThing(Params):
        id: str = param("id of the thing", entity="Thing")

    @command("deleteThing", description="Deletes a thing.", params=DeleteThing, event="THING.DELETE")
    def delete_thing(call: Call, params: DeleteThing) -> Success: ...

Parsing of requests, ``listApis``, paging and the shape of answers all come from the declaration. The handler runs
in one database transaction: raising ``ApiError`` rolls everything back.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from controlplane.api.call import Call

#: Account types, see ``store.models.Account.type``.
USER, ROOT_ADMIN, DOMAIN_ADMIN = 0, 1, 2
EVERYONE = frozenset({USER, ROOT_ADMIN, DOMAIN_ADMIN})
ADMINS = frozenset({ROOT_ADMIN, DOMAIN_ADMIN})
ROOT = frozenset({ROOT_ADMIN})

INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)


class Params(BaseModel):
    """Parameters of a command. Field names are the API's, in lower case; a field without a default is required.

    Types: ``str``, ``bool``, ``int``, ``list[str]`` (comma-joined), ``list[SomeEntry]`` (``x[0].field=``; the field
    names in lower case) and ``dict[str, str]`` (``x[0].key=``/``x[0].value=`` or ``x[0].anything=``), each also
    ``| None``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ListParams(Params):
    """What every list command takes."""

    keyword: str | None = Field(default=None, description="List by keyword")
    page: int | None = Field(default=None, description="page to show, the first is 1; needs pagesize")
    pagesize: int | None = Field(default=None, description="number of results on a page")


class ScopedListParams(ListParams):
    """What lists of resources that belong to accounts take, see ``api.listing``."""

    account: str | None = Field(default=None, description="list resources of this account; needs domainid")
    domainid: str | None = Field(
        default=None,
        description="list resources of this domain",
        json_schema_extra={"entity": "Domain"},
    )
    isrecursive: bool = Field(default=False, description="with domainid: its subdomains too")
    listall: bool = Field(default=False, description="list everything that the caller may see, not only its own")


class Entry(Params):
    """One entry of a map parameter such as ``tags[0].key=a&tags[0].value=b``."""


def param(
    description: str,
    *,
    default: Any = ...,
    entity: str | None = None,
    length: int = 255,
    minimum: int | None = None,
    maximum: int | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    clears: bool = False,
    name: str | None = None,
) -> Any:
    """A parameter. Without ``default`` it is required.

    ``entity``: the value is the id of such a thing (documentation; look it up with ``call.lookup``).
    ``length``: longest accepted text. ``minimum``/``maximum``: of a number (32 bits when not given).
    ``choices``: accepted texts, any case; the handler gets the spelling given here.
    ``secret``: never logged. ``clears``: an empty text is a value, elsewhere it is as good as none.
    ``name``: the API's name where it cannot be a Python name.
    """
    extra: dict[str, Any] = {"entity": entity, "length": length, "minimum": minimum, "maximum": maximum}
    extra |= {"choices": choices, "secret": secret, "clears": clears}
    return Field(
        default,
        description=description,
        alias=name,
        json_schema_extra={k: v for k, v in extra.items() if v is not None},
    )


class Response(BaseModel):
    """An object of an answer. Field names are the API's; ``None`` is left out; datetimes become API dates."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def shown(description: str, default: Any = None, *, name: str | None = None) -> Any:
    """A field of a response; optional unless ``default`` is ``...``."""
    return Field(default, description=description, alias=name)


class Success(Response):
    """The answer of commands that have nothing to show."""

    success: bool = shown("true if operation is executed successfully", True)
    displaytext: str | None = shown("any text associated with the success or failure")


@dataclass(frozen=True)
class Async:
    """The answer of an asynchronous command: its rows are changed, the rest happens after the commit.

    - ``target`` (appliance id, generation): the job ends when that appliance has observed that generation and its
      probes pass. This is what ``desired.desire_network`` returns; None (nothing to push to) ends the job at once.
    - ``workflow``: a durable workflow that ends the job itself with ``jobs.succeed`` or ``jobs.fail``.

    ``completion`` names a function registered with ``jobs.completion``; it runs with ``arguments`` (or, where they
    differ from the workflow's, ``completion_arguments``) in the transaction that ends the job well and returns the
    job's result. ``description`` is the text of the command's events; ``event`` their type where it depends on what
    the command is about.
    """

    instance_type: str | None
    instance_id: str | None
    description: str = ""
    target: tuple[str, int] | None = None
    workflow: str | None = None
    completion: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    completion_arguments: Mapping[str, Any] | None = None
    event: str | None = None


def answer(kind: str, id: str, subject: str, description: str, workflow: str | None, **arguments: object) -> Async:
    """The answer of a command about one thing that ``workflow`` carries out, or that is done already.

    ``kind`` is what the API calls it, ``subject`` what we do: the workflow gets ``SUBJECT_id`` and ``arguments``, the
    job's result is what the completion ``SUBJECT.show`` makes of ``SUBJECT_id``.
    """
    which = {f"{subject}_id": id}
    return Async(
        kind,
        id,
        description,
        workflow=workflow,
        arguments={**which, **arguments},
        completion=f"{subject}.show",
        completion_arguments=which,
    )


@dataclass(frozen=True)
class Later:
    """The answer of a synchronous command that waits for an appliance: ``make`` runs after the commit.

    It may raise ApiError, and takes back then what was committed.
    """

    make: Callable[[], Response]


@dataclass(frozen=True)
class Listing:
    """A page of a list whose objects have another key than the command's ``object_name``."""

    object_name: str
    total: int
    items: Sequence[Response]


#: What handlers return: one object, a page of a list with the total, a job, or what makes an object after the commit.
Answer = Response | tuple[int, "list[Any]"] | Listing | Async | Later

P = TypeVar("P", bound=Params)
Handler = Callable[["Call", P], Answer]


@dataclass(frozen=True)
class Parameter:
    """One parameter as ``listApis`` shows it and as requests are parsed."""

    name: str
    field: str
    #: string, uuid, boolean, integer, long, date, list, map
    kind: str
    required: bool
    description: str
    length: int
    entity: str | None = None
    minimum: int = INT32[0]
    maximum: int = INT32[1]
    choices: tuple[str, ...] = ()
    secret: bool = False
    #: an empty text is a value
    clears: bool = False
    #: model of the entries of a map, None for a free-form map
    entry: type[Params] | None = None


@dataclass(frozen=True)
class Command:
    """A registered command."""

    name: str
    description: str
    handler: Callable[[Call, Any], Answer]
    params: type[Params]
    response: type[Response]
    #: key of the object (or of the list) inside the answer; None: the fields are the answer
    object_name: str | None
    #: top-level key of the answer
    response_key: str
    roles: frozenset[int]
    is_async: bool
    #: the answer of an asynchronous create carries the new id
    creates: bool
    event: str | None
    #: GET is refused, so that secrets stay out of addresses
    post_only: bool
    #: may be called without credentials
    anonymous: bool
    #: runs on a snapshot and changes nothing (what it changes is rolled back)
    reads: bool

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters by lower-case API name."""
        return {parameter.name.lower(): parameter for parameter in parameters_of(self.params)}


class Nothing(Params):
    """No parameters."""


def parameters_of(model: type[Params]) -> list[Parameter]:
    """The parameters a Params model declares, in order."""
    hints = typing.get_type_hints(model)
    found = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        bare = _without_none(hints[name])
        kind, entry = _parameter_type(bare, extra)
        low, high = INT64 if kind == "long" else INT32
        found.append(
            Parameter(
                name=info.alias or name,
                field=name,
                kind=kind,
                required=info.is_required(),
                description=info.description or "",
                length=typing.cast(int, extra.get("length", 255)),
                entity=typing.cast("str | None", extra.get("entity")),
                minimum=typing.cast(int, extra.get("minimum", low)),
                maximum=typing.cast(int, extra.get("maximum", high)),
                choices=typing.cast("tuple[str, ...]", extra.get("choices", ())),
                secret=bool(extra.get("secret", False)),
                clears=bool(extra.get("clears", False)),
                entry=entry,
            )
        )
    return found


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [option for option in typing.get_args(hint) if option is not type(None)]
    return hint


_SCALARS = {bool: "boolean", date: "date", datetime: "date"}


def _parameter_type(hint: Any, extra: Mapping[str, Any]) -> tuple[str, type[Params] | None]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _SCALARS:
        return _SCALARS[hint], None
    if hint is int:
        return ("long" if extra.get("maximum", 0) > INT32[1] else "integer"), None
    if hint is str:
        return ("uuid" if extra.get("entity") else "string"), None
    if origin is list and arguments == (str,):
        return "list", None
    if origin is list and issubclass(arguments[0], Params):
        return "map", arguments[0]
    if origin is dict and arguments == (str, str):
        return "map", None
    raise TypeError(f"no API parameter type for {hint}")


_registry: dict[str, Command] = {}


def command(
    name: str,
    *,
    description: str,
    params: type[P] = Nothing,  # type: ignore[assignment]
    response: type[Response] = Success,
    object_name: str | None = None,
    response_key: str | None = None,
    roles: frozenset[int] = EVERYONE,
    is_async: bool = False,
    creates: bool = False,
    event: str | None = None,
    post_only: bool = False,
    anonymous: bool = False,
    reads: bool | None = None,
) -> Callable[[Callable[[Call, P], Answer]], Callable[[Call, P], Answer]]:
    """Register a function as the handler of API command ``name``.

    ``response_key`` is given where it is not ``<name in lower case>response``. ``event`` is the event type of what the
    command does: asynchronous commands record it when scheduled and when done, others with ``call.event``.
    ``reads``: changes nothing, so it runs without the write lock; by default what is called list, get or query.
    """

    def register(handler: Callable[[Call, P], Answer]) -> Callable[[Call, P], Answer]:
        if name.lower() in _registry:
            raise ValueError(f"API command {name} is declared twice")
        _registry[name.lower()] = Command(
            name=name,
            description=description,
            handler=handler,
            params=params,
            response=response,
            object_name=object_name,
            response_key=response_key or f"{name.lower()}response",
            roles=roles,
            is_async=is_async,
            creates=creates,
            event=event,
            post_only=post_only,
            anonymous=anonymous,
            reads=name.startswith(("list", "get", "query")) if reads is None else reads,
        )
        return handler

    return register


def commands() -> Mapping[str, Command]:
    """Every command by its name in lower case; loads the modules of ``controlplane.api.commands``."""
    _load()
    return _registry


@functools.cache
def _load() -> None:
    package = importlib.import_module("controlplane.api.commands")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
