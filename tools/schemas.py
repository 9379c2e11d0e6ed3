"""Writes the JSON Schemas of what travels between control plane and appliances to appliance/schema/json/.

Run by ``make schema``. They are for readers and for clients in other languages; Gatehouse validates with the models.
A JSON Schema cannot say everything the models check, e.g. that ports do not overlap.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from appliance.schema.envelope import Identity
from appliance.schema.status import Health, Status
from appliance.schema.traffic import Traffic
from consoleproxy.document import ConsoleProxyDocument
from router.document import RouterDocument
from ssvm.document import SsvmDocument
from ssvm.services.storage.model.report import Report

FOLDER = Path(__file__).resolve().parents[1] / "appliance" / "schema" / "json"

#: file name without ``.json`` -> model
MODELS: dict[str, type[BaseModel]] = {
    "router": RouterDocument,
    "consoleproxy": ConsoleProxyDocument,
    "ssvm": SsvmDocument,
    "ssvm-report": Report,
    "status": Status,
    "health": Health,
    "traffic": Traffic,
    "identity": Identity,
}


class Generator(GenerateJsonSchema):
    """Without a title for each field, which only repeats its name."""

    def field_title_should_be_set(self, schema: CoreSchema | core_schema.ModelField) -> bool:
        return False


def texts() -> dict[str, str]:
    """File name -> content (JSON Schema 2020-12)."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        f"{name}.json": json.dumps(dialect | model.model_json_schema(schema_generator=Generator), indent=2) + "\n"
        for name, model in MODELS.items()
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    current = texts()
    for path in FOLDER.glob("*.json"):
        if path.name not in current:
            path.unlink()
    for name, text in current.items():
        (FOLDER / name).write_text(text)
        print(f"wrote {(FOLDER / name).relative_to(FOLDER.parents[2])}")


if __name__ == "__main__":
    main()
