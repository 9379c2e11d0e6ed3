"""From the bytes of a document to its model."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from appliance.errors import DocumentError
from appliance.garbage import uncollected
from appliance.schema.envelope import Document
from appliance.schema.problems import explain
from appliance.schema.types import Memo


@dataclass(frozen=True)
class Parsed:
    """A valid document, its bytes, their SHA-256 in hexadecimal, and the seconds that parsing took.

    ``raw`` is what the bytes hold as plain data. Nobody needs it, but to free it takes 10 ms with 20,000 rules, which
    can wait until the document is applied.
    """

    id: str
    generation: int
    digest: str
    state: Any
    body: bytes
    seconds: float = 0.0
    raw: Any = field(default=None, repr=False, compare=False)


class Parser:
    """Parses the documents of one role; what is the same as in the document before is not validated again."""

    def __init__(self, role: str, model: type[Document[Any]]) -> None:
        self._role, self._model, self._memo = role, model, Memo()
        self._lock = threading.Lock()

    def parse(self, body: bytes) -> Parsed:
        """Raises DocumentError naming each field that is wrong."""
        begin = time.monotonic()
        with uncollected():
            raw, document = self._document(body)
        digest = hashlib.sha256(body).hexdigest()
        seconds = time.monotonic() - begin
        return Parsed(document.id, document.generation, digest, document.state, body, seconds, raw)

    def _document(self, body: bytes) -> tuple[Any, Document[Any]]:
        try:
            # values are mostly different ones, so a cache of them costs more than it saves
            raw = from_json(body, cache_strings="keys")
        except ValueError as error:
            raise DocumentError([("", f"not JSON: {error}")]) from error
        if isinstance(raw, dict) and raw.get("kind") != self._role:
            raise DocumentError([("kind", f"this appliance is a {self._role} and takes no other document")])
        try:
            with self._lock:  # the memo is for one document at a time
                return raw, self._model.model_validate(raw, context=self._memo)
        except ValidationError as error:
            raise DocumentError(explain(error, raw)) from error
