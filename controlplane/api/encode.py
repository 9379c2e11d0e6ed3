"""Answers as JSON and XML, in the exact shapes that CloudStack's clients parse."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from pydantic import BaseModel

JSON_TYPE = "application/json; charset=UTF-8"
XML_TYPE = "text/xml; charset=UTF-8"

# characters that XML 1.0 cannot carry, not even escaped (section 2.2)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def date_text(moment: datetime) -> str:
    """An API date: ``2026-11-22T05:10:51+0000``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def plain(value: Any) -> Any:
    """Response models as JSON-ready dicts: API names, dates as text, fields that are None left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {fields[name].alias or name: plain(item) for name, item in value if item is not None and name in fields}
    if isinstance(value, datetime):
        return date_text(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value


def to_json(key: str, body: Mapping[str, Any]) -> bytes:
    """``{"<key>": body}`` in ASCII."""
    return json.dumps({key: body}, separators=(",", ":")).encode()


def to_xml(key: str, body: Mapping[str, Any], version: str) -> bytes:
    """The same as XML: lists are repeated elements, nothing has attributes but the root."""
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', f'<{key} cloud-stack-version="{escape(version)}">']
    for name, value in body.items():
        _element(parts, name, value)
    parts.append(f"</{key}>")
    return "".join(parts).encode()


def _element(parts: list[str], name: str, value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _element(parts, name, item)
        return
    # keys of free-form maps (details) need not be XML names
    tag = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    tag = tag if re.match(r"[A-Za-z_]", tag) else f"_{tag}"
    parts.append(f"<{tag}>")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _element(parts, key, item)
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif value is not None:
        parts.append(escape(_NOT_XML.sub("\ufffd", str(value))))
    parts.append(f"</{tag}>")
