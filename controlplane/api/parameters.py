"""Requests to parameters: percent-decoding, maps and lists, types and limits. Everything malformed is a 4xx."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from controlplane.api.command import Command, Parameter, Params, parameters_of
from controlplane.errors import ApiError, MalformedError, ParameterError

MAX_PARAMETERS = 5000
MAX_MAP_ENTRIES = 1000
MAX_LIST_ITEMS = 10_000
#: Values of parameters that declare no length limit of their own, e.g. an element of a list.
MAX_NAME = 255

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# C0 and C1 controls but tab, newline and carriage return: no value of this API means any of them
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MAP_NAME = re.compile(r"([^\[\].]+)\[(\d{1,9})\](?:\.(.+))?", re.DOTALL | re.ASCII)
_DATE_FORMATS = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")

#: A request's parameters by name in lower case: (name as sent, value).
Raw = Mapping[str, tuple[str, str]]


def read_form(*parts: bytes) -> dict[str, tuple[str, str]]:
    """Decode query strings and form bodies into one set of parameters.

    A name that comes twice with the same value is taken once. Raises ApiError 400 for what cannot be decoded and for a
    name with two values: clients, proxies and signatures would disagree on which one counts.
    """
    found: dict[str, tuple[str, str]] = {}
    pairs = [pair for part in parts for pair in part.split(b"&") if pair]
    if len(pairs) > MAX_PARAMETERS:
        raise _bad(f"more than {MAX_PARAMETERS} parameters in one request")
    for pair in pairs:
        encoded_name, _, encoded_value = pair.partition(b"=")
        name, value = _decode(encoded_name, "a parameter name"), _decode(encoded_value, "a parameter value")
        if len(name) > MAX_NAME:
            raise _bad(f"a parameter name is longer than {MAX_NAME} characters")
        if "&" in name or "=" in name:
            # names are signed as they are: such a one could swallow its neighbour, e.g. signatureVersion with expires
            raise _bad("a parameter name contains & or =")
        before = found.setdefault(name.lower(), (name, value))
        if before[1] != value:
            raise _bad(f"parameter {name} is given more than once with different values")
    return found


def _decode(encoded: bytes, what: str) -> str:
    if _BAD_ESCAPE.search(encoded):
        raise _bad(f"{what} has a % that is not followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(encoded.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        raise _bad(f"{what} is not UTF-8") from None


def _bad(text: str) -> ApiError:
    return ApiError(text, code=400, cs_code=9999)


def text_of(raw: Raw, name: str) -> str | None:
    """The value of a parameter by its name in lower case."""
    found = raw.get(name)
    return found[1] if found is not None else None


def parse(command: Command, raw: Raw) -> Params:
    """The typed parameters of a command. Unknown parameters are ignored, empty ones count as absent
    unless they clear something.

    Raises ParameterError (431) naming the parameter, MalformedError (430) for a map that cannot be read.
    """
    if text_of(raw, "projectid") not in (None, "", "-1"):
        raise ParameterError("parameter projectid: projects are not supported; leave it out")
    maps = _maps(raw)
    values: dict[str, Any] = {}
    for key, parameter in command.parameters.items():
        if parameter.kind == "map":
            if text_of(raw, key):
                raise MalformedError(f"parameter {parameter.name} is a map: send {parameter.name}[0].<field>=<value>")
            if key in maps:
                values[parameter.field] = _map_value(parameter, maps[key])
            continue
        text = text_of(raw, key)
        if text or (text is not None and parameter.clears):
            values[parameter.field] = convert(parameter, text)
        elif parameter.required:
            raise _missing(command, parameter)
    for parameter in command.parameters.values():
        if parameter.required and parameter.field not in values:
            raise _missing(command, parameter)
    return command.params.model_construct(None, **values)


def _missing(command: Command, parameter: Parameter) -> ParameterError:
    return ParameterError(
        f"Unable to execute API command {command.name.lower()} due to missing parameter {parameter.name}"
    )


def convert(parameter: Parameter, text: str) -> Any:
    """One value by the parameter's type. Raises ParameterError."""
    if _CONTROL.search(text):
        _refuse(parameter, "has a control character")
    match parameter.kind:
        case "boolean":
            return _boolean(parameter, text)
        case "integer" | "long":
            return _integer(parameter, text)
        case "date":
            return _date(parameter, text)
        case "list":
            items = [item.strip() for item in text.split(",")]
            if len(items) > MAX_LIST_ITEMS:
                _refuse(parameter, f"has more than {MAX_LIST_ITEMS} items")
            if any(len(item) > parameter.length for item in items):
                _refuse(parameter, f"has an item longer than {parameter.length} characters")
            return [item for item in items if item]
        case _:
            return _text(parameter, text)


def _text(parameter: Parameter, text: str) -> str:
    if len(text) > parameter.length:
        _refuse(parameter, f"is longer than {parameter.length} characters")
    if parameter.choices:
        for choice in parameter.choices:
            if choice.lower() == text.lower():
                return choice
        _refuse(parameter, f"must be one of {', '.join(parameter.choices)}")
    return text


def _boolean(parameter: Parameter, text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    # clients in Python send their None for what was left to its default
    if text.lower() in ("false", "0", "none"):
        return False
    _refuse(parameter, "must be true or false")


def _integer(parameter: Parameter, text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,19}\s*", text, re.ASCII):
        _refuse(parameter, "must be a whole number")
    number = int(text)
    if not parameter.minimum <= number <= parameter.maximum:
        _refuse(parameter, f"must be from {parameter.minimum} to {parameter.maximum}")
    return number


def _date(parameter: Parameter, text: str) -> datetime:
    for layout in _DATE_FORMATS:
        try:
            moment = datetime.strptime(text.strip(), layout)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
    _refuse(parameter, "must be a date: yyyy-MM-dd or yyyy-MM-ddTHH:mm:ss+0000")


def _refuse(parameter: Parameter, problem: str) -> NoReturn:
    raise ParameterError(f"Invalid parameter {parameter.name}: it {problem}")


def _maps(raw: Raw) -> dict[str, dict[int, dict[str, str]]]:
    """Map parameters: name in lower case -> index -> field as sent -> value."""
    maps: dict[str, dict[int, dict[str, str]]] = {}
    for sent, value in raw.values():
        match = _MAP_NAME.fullmatch(sent)
        if match:
            name, index, field = match[1].lower(), int(match[2]), match[3] or ""
            maps.setdefault(name, {}).setdefault(index, {})[field] = value
        elif "[" in sent:
            maps.setdefault(sent.partition("[")[0].lower(), {})[-1] = {sent: value}
    return maps


def _map_value(parameter: Parameter, entries: dict[int, dict[str, str]]) -> Any:
    if -1 in entries:
        [sent] = entries[-1]
        raise MalformedError(f"cannot read {sent[:80]}: write {parameter.name}[0].<field>=<value>")
    if len(entries) > MAX_MAP_ENTRIES:
        raise MalformedError(f"parameter {parameter.name} has more than {MAX_MAP_ENTRIES} entries")
    ordered = [entries[index] for index in sorted(entries)]
    if any("" in entry for entry in ordered):
        raise MalformedError(f"parameter {parameter.name} is a map: write {parameter.name}[0].<field>=<value>")
    if parameter.entry is None:
        return _free_map(parameter, ordered)
    return [_entry(parameter, parameter.entry, entry) for entry in ordered]


def _free_map(parameter: Parameter, entries: list[dict[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        # details[0].key=a&details[0].value=b means the same as details[0].a=b
        pairs = {entry["key"]: entry["value"]} if entry.keys() == {"key", "value"} else entry
        for key, value in pairs.items():
            if len(key) > MAX_NAME or _CONTROL.search(key):
                raise MalformedError(f"parameter {parameter.name} has a key that is too long or unprintable")
            if _CONTROL.search(value):
                _refuse(parameter, "has a control character")
            found[key] = _text(parameter, value)
    return found


def _entry(parameter: Parameter, model: type[Params], entry: dict[str, str]) -> Params:
    by_name = {field.lower(): value for field, value in entry.items()}
    values: dict[str, Any] = {}
    for declared in parameters_of(model):
        text = by_name.pop(declared.name.lower(), None)
        if text:
            values[declared.field] = convert(declared, text)
        elif declared.required:
            raise MalformedError(f"parameter {parameter.name}: every entry needs {declared.name}")
    if by_name:
        known = ", ".join(declared.name for declared in parameters_of(model))
        raise MalformedError(f"parameter {parameter.name} has fields {known}, not {next(iter(by_name))[:80]}")
    return model.model_construct(None, **values)
