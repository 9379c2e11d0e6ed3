"""Stickiness policies of load balancer rules: methods, parameters, and what haproxy is told (guide: 15.9.2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controlplane.errors import ParameterError
from router.services.loadbalancer.model import AppCookie, LbCookie, SourceBased, Stickiness

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES = {"": 1, "k": 1000, "m": 1_000_000}
_ADAPTER: TypeAdapter[LbCookie | AppCookie | SourceBased] = TypeAdapter(Stickiness)


def _scaled(text: str, units: Mapping[str, int], example: str) -> int:
    match = re.fullmatch(rf"([0-9]{{1,9}})({'|'.join(units)})", text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a number such as {example}")
    return int(match[1]) * units[match[2]]


def _seconds(text: str) -> int:
    return _scaled(text, _UNITS, "30m")


def _size(text: str) -> int:
    return _scaled(text, _SIZES, "200k")


def _flag(text: str) -> bool:
    # a flag is set by being there
    return text.strip().lower() not in ("false", "no", "0")


def _domains(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _number(text: str) -> int:
    return _scaled(text, {"": 1}, "52")


#: method -> parameter -> (field of the router's model, how its text is read)
METHODS: dict[str, dict[str, tuple[str, Callable[[str], Any]]]] = {
    "LbCookie": {
        "cookie-name": ("cookie_name", str),
        "mode": ("mode", str),
        "nocache": ("nocache", _flag),
        "indirect": ("indirect", _flag),
        "postonly": ("postonly", _flag),
        "domain": ("domains", _domains),
        "holdtime": ("holdtime", _seconds),
    },
    "AppCookie": {
        "cookie-name": ("cookie_name", str),
        "length": ("length", _number),
        "holdtime": ("holdtime", _seconds),
        "request-learn": ("request_learn", _flag),
        "prefix": ("prefix", _flag),
        "mode": ("mode", str),
    },
    "SourceBased": {"tablesize": ("table_size", _size), "expire": ("expire", _seconds)},
}


_ABOUT = {
    "LbCookie": "The load balancer's own cookie keeps a client on its guest.",
    "AppCookie": "A cookie of the application keeps a client on the guest that set it.",
    "SourceBased": "A client's address keeps it on its guest.",
}


def described() -> str:
    """The methods and their parameters, in the JSON that clients read in SupportedStickinessMethods."""
    return json.dumps(
        [
            {
                "methodname": method,
                "description": _ABOUT[method],
                "paramlist": [
                    {
                        "paramname": name,
                        # a load balancer's cookie is named by the rule
                        "required": (method, name) == ("AppCookie", "cookie-name"),
                        "isflag": read is _flag,
                        "description": field.replace("_", " "),
                    }
                    for name, (field, read) in parameters.items()
                ],
            }
            for method, parameters in METHODS.items()
        ],
        separators=(",", ":"),
    )


def method_named(name: str) -> str:
    """A method in its own spelling; ParameterError when there is none."""
    for method in METHODS:
        if method.lower() == name.strip().lower():
            return method
    raise ParameterError(f"methodname: {name!r} is not one of {', '.join(METHODS)}")


def parse(method: str, params: Mapping[str, str], rule_id: str) -> LbCookie | AppCookie | SourceBased:
    """The router's model of a policy. Raises ParameterError, naming the parameter that does not fit.

    A load balancer's cookie without a name is named by the rule; AppCookie needs the application's name.
    """
    known = METHODS[method]
    fields: dict[str, Any] = {"method": method}
    if method == "LbCookie":
        fields["cookie_name"] = f"lb-{rule_id.partition('-')[0]}"
    for name, text in params.items():
        if name not in known:
            raise ParameterError(f"param: {method} has no parameter {name!r}; it has {', '.join(known)}")
        field, read = known[name]
        try:
            fields[field] = read(text)
        except ValueError as error:
            raise ParameterError(f"param: {name}: {error}") from None
    names = {field: name for name, (field, _) in known.items()}
    try:
        return _ADAPTER.validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        places = [names[str(place)] for place in first["loc"] if place in names]
        raise ParameterError(f"param: {' '.join([*places, ''])}{first['msg']}") from None
