"""From the bytes of a document to its model.

A document is whole, and most of it is what the one before was. So the JSON is first only cut at its sections and at
the entries of their lists: what has the very bytes of last time is the same frozen object again, and only the rest is
read and validated. The checks of sections that changed, and those between sections, see everything.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from appliance.errors import DocumentError
from appliance.garbage import uncollected
from appliance.schema.envelope import Document
from appliance.schema.problems import explain

#: cut a JSON object, or array, into the bytes of what it holds
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True)
class Parsed:
    """A valid document, its bytes, their SHA-256 in hexadecimal, and the seconds that parsing took."""

    id: str
    generation: int
    digest: str
    state: Any
    body: bytes
    seconds: float = 0.0


class Parser:
    """Parses the documents of one role; what is the same as in the document before is not validated again."""

    def __init__(self, role: str, model: type[Document[Any]]) -> None:
        self._role, self._model = role, model
        self._lock = threading.Lock()
        #: of the document parsed last: section -> SHA-256 of its bytes, and its model
        self._sections: dict[str, tuple[bytes, Any]] = {}
        #: and section, field -> bytes of an entry -> its model
        self._entries: dict[tuple[str, str], dict[bytes, Any]] = {}

    def parse(self, body: bytes) -> Parsed:
        """Raises DocumentError naming each field that is wrong."""
        begin = time.monotonic()
        with uncollected():
            document = self._document(body)
        digest = hashlib.sha256(body).hexdigest()
        seconds = time.monotonic() - begin
        return Parsed(document.id, document.generation, digest, document.state, body, seconds)

    def _document(self, body: bytes) -> Document[Any]:
        try:
            with self._lock:
                return self._with_known(body)
        except (msgspec.DecodeError, ValueError):
            return self._afresh(body)  # which says what is wrong, and where

    def _with_known(self, body: bytes) -> Document[Any]:
        """Raises ValueError and DecodeError."""
        members = _MEMBERS.decode(body)
        state = _MEMBERS.decode(members.pop("state", b""))
        digests = {name: hashlib.sha256(section).digest() for name, section in state.items()}
        sections: dict[str, Any] = {}
        lists: dict[tuple[str, str], list[bytes]] = {}
        for name, section in state.items():
            digest, model = self._sections.get(name, (b"", None))
            sections[name] = model if digest == digests[name] else self._section(name, bytes(section), lists)
        head = {name: from_json(bytes(member)) for name, member in members.items()}
        document = self._model.model_validate({**head, "state": sections})
        if document.kind != self._role:
            raise ValueError(f"a {document.kind}")
        models = {name: getattr(document.state, name) for name in sections}
        self._sections = {
            name: (digests[name], model) for name, model in models.items() if isinstance(model, BaseModel)
        }
        self._entries = {place: known for place, known in self._entries.items() if place[0] in models}
        for (name, field), keys in lists.items():
            self._entries[name, field] = dict(zip(keys, getattr(models[name], field), strict=True))
        return document

    def _section(self, name: str, section: bytes, lists: dict[tuple[str, str], list[bytes]]) -> Any:
        """What a section holds, with models for the entries that are known; ``lists`` gets the keys of all entries."""
        if not section.startswith(b"{"):
            return from_json(section)
        values: dict[str, Any] = {}
        for field, member in ((field, bytes(raw)) for field, raw in _MEMBERS.decode(section).items()):
            # an object is known as a model, which is taken as it is; other values would be validated in another form
            if not member.startswith(b"[{"):
                values[field] = from_json(member)
                continue
            keys = lists[name, field] = list(map(bytes, _ENTRIES.decode(member)))
            known = self._entries.get((name, field))
            values[field] = [known.get(key) or from_json(key) for key in keys] if known else from_json(member)
        return values

    def _afresh(self, body: bytes) -> Document[Any]:
        try:
            raw = from_json(body)
        except ValueError as error:
            raise DocumentError([("", f"not JSON: {error}")]) from error
        if isinstance(raw, dict) and raw.get("kind") != self._role:
            raise DocumentError([("kind", f"this appliance is a {self._role} and takes no other document")])
        try:
            return self._model.model_validate(raw)
        except ValidationError as error:
            raise DocumentError(explain(error, raw)) from error
