"""Signatures as real clients make them, and none other."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cs import CloudStack
from libcloud.common.cloudstack import CloudStackConnection

from controlplane.api.parameters import read_form
from controlplane.api.signing import check_expiry, verify
from controlplane.errors import ApiError, UnauthenticatedError

SECRET = "s3cr3t-key"
PARAMETERS = {
    "command": "createTags",
    "response": "json",
    "apiKey": "plgWJfZK4gyS3mOMTVmjUVg",
    "zoneId": "1",
    "Zebra": "z",
    "alpha": "a b+c~d*e_f.g-h/é%",
    "tags[0].key": "k[1]",
    "empty": "",
}


def _sent(parameters: dict[str, str], signature: str) -> dict[str, tuple[str, str]]:
    signed = parameters | {"signature": signature}
    return read_form("&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in signed.items()).encode())


def _java_encode(text: str) -> str:
    """java.net.URLEncoder with the "+" of a space made %20, as the reference client does."""
    bare = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-*_")
    return "".join(c if c in bare else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def _hmac(text: str) -> str:
    return base64.b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()).decode()


@pytest.mark.parametrize("tilde", ["java", "bare"])
@pytest.mark.parametrize("order", ["as sent", "lower case"])
def test_all_four_forms_are_accepted(tilde: str, order: str) -> None:
    names = sorted(PARAMETERS, key=str.lower if order == "lower case" else str)
    assert names != sorted(PARAMETERS, key=str if order == "lower case" else str.lower), "the forms must differ"
    text = "&".join(f"{name}={_java_encode(PARAMETERS[name])}" for name in names)
    if tilde == "bare":
        text = text.replace("%7E", "~")
    assert verify(_sent(PARAMETERS, _hmac(text.lower())), SECRET)


def test_a_published_example() -> None:
    # the CloudStack developers' guide ("How to sign an API call") prints this request and its signature
    secret = "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ"
    query = (
        b"apikey=plgWJfZK4gyS3mOMTVmjUVg-X-jlWlnfaUJ9GAbBbf9EdM-kAYMmAiLqzzq1ElZLYq_u38zCm0bewzGUdP66mg"
        b"&command=listUsers&response=json&signature=TTpdDq%2F7j%2FJ58XCRHomKoQXEQds%3D"
    )
    assert verify(read_form(query), secret)


def test_what_cs_signs() -> None:
    client = CloudStack(endpoint="http://x", key="k", secret=SECRET)
    parameters = {name: value for name, value in PARAMETERS.items() if name != "signature"}
    client._sign(parameters)
    assert verify(_sent(PARAMETERS, parameters["signature"]), SECRET)


def test_what_libcloud_signs() -> None:
    # it leaves [ and ] of values bare, which no server accepts, so the value has none here
    parameters = PARAMETERS | {"tags[0].key": "k"}
    connection = CloudStackConnection.__new__(CloudStackConnection)
    connection.key = SECRET
    signature = connection._make_signature(parameters).decode()
    assert verify(_sent(parameters, signature), SECRET)


@pytest.mark.parametrize(
    "change", [{"alpha": "x"}, {"command": "deleteTags"}, {"extra": "1"}, {"alpha": "a b+c~d*e_f.g-h/é% "}]
)
def test_a_changed_request_is_refused(change: dict[str, str]) -> None:
    text = "&".join(f"{name}={_java_encode(PARAMETERS[name])}" for name in sorted(PARAMETERS)).lower()
    assert verify(_sent(PARAMETERS, _hmac(text)), SECRET)
    assert not verify(_sent(PARAMETERS | change, _hmac(text)), SECRET)


def test_a_name_cannot_swallow_its_neighbour() -> None:
    # what is signed stays the same, but signatureVersion, and with it the expiry, would be gone
    parameters = {"expires": "2001-01-01T00:00:00+0000", "response": "json", "signatureVersion": "3"}
    signature = quote(_hmac("&".join(f"{name}={_java_encode(parameters[name])}" for name in parameters).lower()))
    sent = f"expires=2001-01-01T00%3A00%3A00%2B0000&response%3Djson%26signatureVersion=3&signature={signature}"
    with pytest.raises(ApiError, match="name"):
        verify(read_form(sent.encode()), SECRET)


@pytest.mark.parametrize("signature", ["", "x", "é", "=" * 1000])
def test_no_signature_is_refused(signature: str) -> None:
    assert not verify(_sent(PARAMETERS, signature), SECRET)


NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)


@pytest.mark.parametrize("expires", ["2026-11-22T05:10:51+0000", "2026-11-22T05:10:51Z", "2026-11-22T14:10:51+0900"])
def test_a_signature_that_has_not_expired(expires: str) -> None:
    check_expiry(_sent({"signatureVersion": "3", "expires": expires}, ""), NOW)


@pytest.mark.parametrize(
    "expires",
    ["", "2026-11-22T04:59:59+0000", "2026-11-22", "tomorrow", "0001-01-01T00:00:00+2359", "2026-11-22T13:59:59+0900"],
)
def test_a_signature_that_has_expired_or_says_nonsense(expires: str) -> None:
    with pytest.raises(UnauthenticatedError, match="expire"):
        check_expiry(_sent({"signatureVersion": "3", "expires": expires}, ""), NOW)


def test_without_version_3_there_is_no_expiry() -> None:
    check_expiry(_sent({"expires": "2001-01-01T00:00:00+0000"}, ""), NOW)
