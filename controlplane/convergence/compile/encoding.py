"""Pieces of a document's JSON."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError


def dump(model: BaseModel, without: str | None = None) -> bytes:
    """The model as JSON, but for the field ``without``."""
    return model.model_dump_json(exclude_none=True, exclude={without} if without else None).encode()


def object_of(members: Mapping[str, bytes]) -> bytes:
    """A JSON object of members that are JSON already."""
    return b"{" + b",".join(b'"' + name.encode() + b'":' + value for name, value in members.items()) + b"}"


def extend(encoded: bytes, **members: bytes) -> bytes:
    """The JSON object ``encoded``, which has members, with more of them."""
    return encoded[:-1] + b"," + object_of(members)[1:]


def reasons(error: ValidationError) -> str:
    """What a model found wrong, in one line."""
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
