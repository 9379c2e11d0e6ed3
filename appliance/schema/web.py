"""Types of what browsers and other clients of the web meet: origins, certificates, links that expire."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, SecretStr, field_serializer

from appliance.schema.types import Frozen

#: RFC 6454 section 6.2: scheme, host and port as a browser sends them
ORIGIN = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9][0-9]{0,4})?"


def _origin(value: str) -> str:
    if not re.fullmatch(ORIGIN, value):
        raise ValueError("must be an origin in lower case, as in https://cloud.example or https://cloud.example:8443")
    return value


def _text(value: object) -> object:
    # datetime also takes numbers; a document has ISO 8601 text
    if not isinstance(value, str | datetime):
        raise ValueError("must be ISO 8601 text in UTC, as in 2026-11-24T15:00:00Z")
    return value


Origin = Annotated[str, AfterValidator(_origin)]
Utc = Annotated[AwareDatetime, BeforeValidator(_text)]
#: SHA-256 in hexadecimal
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: PEM text
Pem = Annotated[str, Field(min_length=1, max_length=262_144)]


class Certificate(Frozen):
    """What the proxy shows to browsers: certificate, key (PKCS#8) and the certificates between it and a root, PEM."""

    certificate: Pem
    key: SecretStr
    chain: str = Field(default="", max_length=262_144)

    @field_serializer("key", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        # a document on its way to the appliance must hold it; repr() and logs do not
        return value.get_secret_value()
