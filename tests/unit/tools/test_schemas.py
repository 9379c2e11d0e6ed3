"""The generated JSON Schemas are those of the models."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.documents import small_state
from tools import schemas


def test_the_files_are_up_to_date() -> None:
    written = {path.name: path.read_text() for path in schemas.FOLDER.glob("*")}
    assert written == schemas.texts(), "run `make schema` and commit what it writes"


def patterns(schema: Any, definitions: dict[str, Any], value: Any) -> list[tuple[str, str]]:
    """Every (pattern, text) pair on the way through ``value``."""
    found = []
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for branch in schema.get("anyOf", []):
        if value is not None:
            found += patterns(branch, definitions, value)
    if isinstance(value, dict):
        for key, entry in value.items():
            found += patterns(schema.get("properties", {}).get(key, {}), definitions, entry)
    elif isinstance(value, list):
        for entry in value:
            found += patterns(schema.get("items", {}), definitions, entry)
    elif "pattern" in schema:
        found.append((schema["pattern"], value))
    return found


def test_the_patterns_match_what_the_models_accept() -> None:
    schema = json.loads(schemas.texts()["router.json"])
    pairs = patterns({"$ref": "#/$defs/RouterState"}, schema["$defs"], small_state())
    assert len(pairs) > 20
    assert [pair for pair in pairs if not re.search(*pair)] == []
