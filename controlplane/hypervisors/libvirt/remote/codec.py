"""Values of Python as JSON and back, by their types: what calls to another machine take and give.

Known are dataclasses, tuples, lists, frozensets, mappings, bytes, paths and what JSON has itself. Nothing that arrives
can be anything but a value of the type that was expected.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Json = Any


def encode(value: Any) -> Json:
    """``value`` as what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        # pairs, for keys need not be text
        return [[encode(key), encode(item)] for key, item in value.items()]
    if isinstance(value, tuple | list | frozenset):
        return [encode(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Path):
        return str(value)
    return value


def decode(kind: Any, raw: Json) -> Any:
    """The value of type ``kind`` that ``encode`` made ``raw`` of. Raises TypeError, ValueError or KeyError."""
    if get_origin(kind) is not None:
        return _generic(get_origin(kind), get_args(kind), raw)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: decode(hints[field.name], raw[field.name]) for field in fields(kind)})
    if kind is bytes:
        return base64.b64decode(raw, validate=True)
    if kind is Path:
        return Path(raw)
    if kind not in (str, int, bool, NoneType) or type(raw) is not kind:
        raise TypeError(f"{raw!r} is no {kind}")
    return raw


def _generic(origin: Any, arguments: tuple[Any, ...], raw: Json) -> Any:
    if origin in (Union, UnionType):
        # of alternatives there is one, and None
        return None if raw is None else decode(next(one for one in arguments if one is not NoneType), raw)
    if origin is Literal:
        if raw not in arguments:
            raise ValueError(f"{raw!r} is none of {arguments}")
        return raw
    if not isinstance(raw, list):
        raise TypeError(f"{raw!r} is no list")
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(decode(one, item) for one, item in zip(arguments, raw, strict=True))
    if origin in (dict, Mapping):
        return {decode(arguments[0], key): decode(arguments[1], item) for key, item in raw}
    items = [decode(arguments[0], item) for item in raw]
    return items if origin in (list, Sequence) else origin(items)
