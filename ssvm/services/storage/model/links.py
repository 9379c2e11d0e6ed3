"""Links: leave to read one object, until a time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.schema.types import Frozen, RuleId
from appliance.schema.web import Digest, Utc
from ssvm.services.storage.model.stores import ObjectPath


class Link(Frozen):
    """One object for whoever has the token, or for one other SSVM. One that leaves the document ends at once.

    With ``token_hash``: ``GET https://<appliance>/extract/<token>/<name>``, Range and If-Range supported.
    With ``peer``: ``GET https://<appliance>:<peer_port>/peer/<id>`` by mutual TLS, for the appliance of that id.
    """

    id: RuleId
    store: RuleId
    path: ObjectPath
    #: SHA-256 of the token, hexadecimal; the token itself is in the link that the person has and nowhere else
    token_hash: Digest | None = None
    peer: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] | None = None
    #: file name that browsers save it as, and last part of the URL
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")] = "download"
    expires: Utc
