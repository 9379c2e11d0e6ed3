"""What every command has in common: shapes, errors, paging, who may call."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ElementTree

import pytest

from controlplane.api.command import EVERYONE, commands
from controlplane.api.dispatch import Limits, Request, handle
from controlplane.api.server import MAX_BODY
from tests.control import Caller, FakeRuntime, Http, answer_of, caller_for, http_for


def test_a_list(admin: Caller) -> None:
    response = admin.raw("listZones")
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert list(response.json()) == ["listzonesresponse"]
    answer = answer_of(response.json())
    assert list(answer) == ["count", "zone"]
    assert (answer["count"], answer["zone"][0]["name"], answer["zone"][0]["tags"]) == (1, "zone1", [])


def test_an_empty_list_is_an_empty_object(admin: Caller) -> None:
    assert admin.raw("listZones", name="none").json() == {"listzonesresponse": {}}


def test_xml_is_the_default(admin: Caller) -> None:
    response = admin.raw("listZones", response="xml")
    assert response.headers["content-type"] == "text/xml; charset=UTF-8"
    root = ElementTree.fromstring(response.content)
    assert root.tag == "listzonesresponse"
    assert (root.findtext("count"), root.findtext("zone/name")) == ("1", "zone1")


@pytest.mark.parametrize("path", ["/client/api", "/client/api/"])
def test_command_and_parameter_names_in_any_case(admin: Caller, path: str) -> None:
    assert admin("LISTZONES", NAME="zone1")["count"] == 1
    answer = admin.http.request("GET", query="command=listZones&response=json", path=path)
    assert answer.status_code == 401


def test_post_signs_query_and_body(admin: Caller) -> None:
    response = admin.raw("listZones", name="zone1")
    assert response.status_code == 200
    signed = {"command": "listZones", "response": "json", "apikey": admin.key, "name": "zone1"}
    from controlplane.api.signing import sign, texts_to_sign

    signature = sign(texts_to_sign(signed.items())[0], admin.secret)
    body = {"name": "zone1", "signature": signature, "apikey": admin.key}
    assert admin.http.post(body, query=b"command=listZones&response=json").status_code == 200
    assert admin.http.post(body | {"name": "zone2"}, query=b"command=listZones&response=json").status_code == 401


def test_an_error(admin: Caller) -> None:
    response = admin.raw("listZones", id="7d")
    text = "Invalid parameter id value=7d due to incorrect long value format, or entity does not exist"
    assert response.status_code == 431
    assert response.headers["x-description"] == text
    assert response.json() == {
        "listzonesresponse": {"uuidList": [], "errorcode": 431, "cserrorcode": 4350, "errortext": text}
    }
    root = ElementTree.fromstring(admin.raw("listZones", id="7d", response="xml").content)
    assert (root.tag, root.findtext("errorcode"), root.findtext("errortext")) == ("listzonesresponse", "431", text)


def test_an_error_text_cannot_add_headers(admin: Caller) -> None:
    response = admin.raw("listZones", id="a\r\nSet-Cookie: x=y\r\n\r\né")
    assert response.status_code == 431
    assert "\n" not in response.headers["x-description"]
    assert "set-cookie" not in response.headers


def test_an_unknown_command(admin: Caller) -> None:
    response = admin.raw("listNothing")
    assert (response.status_code, list(response.json())) == (432, ["errorresponse"])
    assert "'listNothing' does not exist" in answer_of(response.json())["errortext"]


def test_no_command(http: Http) -> None:
    assert http.get("response=json").status_code == 432


@pytest.mark.parametrize(
    "query",
    [
        "command=listZones",
        "command=listZones&apikey=unknown&signature=x",
        "command=listZones&apikey=&signature=",
        "command=listNothing",
        "command=listZones&sessionkey=x",
    ],
)
def test_without_credentials(http: Http, query: str) -> None:
    response = http.get(f"{query}&response=json")
    assert response.status_code == 401
    assert "unable to verify user credentials" in response.text


def test_a_wrong_signature_and_a_disabled_user(admin: Caller, http: Http, runtime: FakeRuntime) -> None:
    bob = _account(admin, runtime, "bob")
    assert Caller(http, bob.key, bob.secret + "x").raw("listZones").status_code == 401
    assert bob.raw("listZones").status_code == 200
    admin("disableUser", id=admin("listUsers", username="bob")["user"][0]["id"])
    assert bob.raw("listZones").status_code == 401


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"])
def test_other_methods(http: Http, method: str) -> None:
    response = http.request(method, query="command=listZones&response=json")
    assert (response.status_code, list(response.json())) == (405, ["errorresponse"])


def test_bodies_that_are_no_form_or_too_large(http: Http) -> None:
    assert http.post(b"{}", content_type="application/json").status_code == 415
    assert http.post(b"a=" + b"x" * MAX_BODY).status_code == 413
    assert http.request("GET", query=b"a=" + b"x" * 300_000).status_code == 414


def test_paging(admin: Caller) -> None:
    total = admin("listEventTypes")["count"]
    assert total > 20
    pages = [admin("listOsTypes", page=page, pagesize=5) for page in (1, 2, 3, 4)]
    assert [page.get("count") for page in pages] == [12, 12, 12, 12]
    assert [len(page.get("ostype", [])) for page in pages] == [5, 5, 2, 0]
    names = [row["description"] for page in pages for row in page.get("ostype", [])]
    assert names == [row["description"] for row in admin("listOsTypes")["ostype"]]
    assert admin("listOsTypes", pagesize=-1)["count"] == 12


@pytest.mark.parametrize(
    ("paging", "text"),
    [
        ({"page": 1}, '"pagesize" parameter is required'),
        ({"pagesize": 5}, '"page" parameter is required'),
        ({"page": 0, "pagesize": 5}, "page must be 1 or more"),
        ({"page": 1, "pagesize": 501}, "pagesize must be from 1 to 500"),
        ({"page": 1, "pagesize": 0}, "pagesize must be from 1 to 500"),
        ({"page": 1, "pagesize": -1}, "pagesize must be from 1 to 500"),
        ({"page": 2**31 - 1, "pagesize": 500}, None),
    ],
)
def test_bad_paging(admin: Caller, paging: dict[str, int], text: str | None) -> None:
    if text is None:
        assert admin("listOsTypes", **paging)["count"] == 12
    else:
        error = admin.error("listOsTypes", **paging)
        assert (error["errorcode"], text in error["errortext"]) == (431, True)


def test_the_default_page_size_is_a_setting(admin: Caller) -> None:
    admin("updateConfiguration", name="default.page.size", value=3)
    answer = admin("listOsTypes")
    assert (answer["count"], len(answer["ostype"])) == (12, 3)


def test_keyword(admin: Caller) -> None:
    found = admin("listOsTypes", keyword="dEbIaN")["ostype"]
    assert len(found) == 3
    assert admin("listOsTypes", keyword="100%_") == {}


def _account(admin: Caller, runtime: FakeRuntime, name: str, kind: int = 0, domain: str | None = None) -> Caller:
    place = {"domainid": domain} if domain is not None else {}
    made = admin(
        "createAccount",
        accounttype=kind,
        username=name,
        password="secret",
        email="e@example.org",
        firstname="f",
        lastname="l",
        **place,
    )["account"]
    return caller_for(runtime, admin.http, made["user"][0]["id"])


def test_commands_for_administrators(admin: Caller, runtime: FakeRuntime) -> None:
    bob = _account(admin, runtime, "bob")
    restricted = [item.name for item in commands().values() if item.roles != EVERYONE]
    assert {"createZone", "createAccount", "listConfigurations"} <= set(restricted)
    for name in restricted:
        response = bob.raw(name)
        assert response.status_code == 432, f"{name}: {response.text}"
    shown = {api["name"] for api in bob("listApis")["api"]}
    assert not shown & set(restricted)


def test_two_tenants_do_not_see_each_other(admin: Caller, runtime: FakeRuntime) -> None:
    alice, bob = _account(admin, runtime, "alice"), _account(admin, runtime, "bob")
    assert [row["name"] for row in alice("listAccounts", listall=True)["account"]] == ["alice"]
    assert [row["username"] for row in bob("listUsers", listall=True)["user"]] == ["bob"]
    other = alice("listUsers")["user"][0]
    for command in ("getUserKeys", "registerUserKeys"):
        assert bob.error(command, id=other["id"])["errorcode"] == 531
    assert bob.error("updateUser", id=other["id"], password="x")["errorcode"] == 531
    assert bob.error("listAccounts", account="alice", domainid=other["domainid"])["errorcode"] == 531
    assert bob.error("listAccounts", id=other["accountid"])["errorcode"] == 531
    assert bob.error("listEvents", account="alice", domainid=other["domainid"])["errorcode"] == 531


def test_a_domain_administrator_rules_its_domains_only(admin: Caller, runtime: FakeRuntime) -> None:
    inside = admin("createDomain", name="inside")["domain"]["id"]
    below = admin("createDomain", name="below", parentdomainid=inside)["domain"]["id"]
    beside = admin("createDomain", name="insidex")["domain"]["id"]
    boss = _account(admin, runtime, "boss", 2, inside)
    _account(admin, runtime, "worker", 0, below)
    _account(admin, runtime, "stranger", 0, beside)
    # an administrator of a domain is none over a root administrator who happens to be in it
    root_inside = admin(
        "createAccount",
        accounttype=1,
        username="r",
        password="x",
        email="e",
        firstname="f",
        lastname="l",
        domainid=inside,
    )["account"]
    names = {row["name"] for row in boss("listAccounts", listall=True)["account"]}
    assert {"boss", "worker"} <= names and "stranger" not in names
    assert {row["path"] for row in boss("listDomains")["domain"]} == {"ROOT/inside", "ROOT/inside/below"}
    assert boss.error("getUserKeys", id=root_inside["user"][0]["id"])["errorcode"] == 531
    assert boss.error("createDomain", name="x", parentdomainid=beside)["errorcode"] == 531
    assert boss.error("deleteDomain", id=beside)["errorcode"] == 531
    error = boss.error(
        "createAccount", accounttype=1, username="x", password="x", email="e", firstname="f", lastname="l"
    )
    assert error["errorcode"] == 531


def test_secrets_stay_out_of_the_log(admin: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    admin.raw("createAccount", username="u", password="hunter2", email="e", firstname="f", lastname="l")
    admin.http.post({"command": "login", "username": "u", "password": "hunter3"})
    admin.raw("listZones", id="hunter4")
    written = caplog.text
    assert "createAccount admin/admin from 127.0.0.1: 200" in written
    for secret in ("hunter2", "hunter3", admin.secret, admin.key, "signature"):
        assert secret not in written


def test_throttling(admin: Caller, runtime: FakeRuntime) -> None:
    bob = _account(admin, runtime, "bob")
    admin("updateConfiguration", name="api.throttling.enabled", value="true")
    admin("updateConfiguration", name="api.throttling.max", value="3")
    admin("updateConfiguration", name="api.throttling.interval", value="600")
    assert [bob.raw("listZones").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert admin.raw("listZones").status_code == 200


def test_the_integration_port(runtime: FakeRuntime) -> None:
    http = http_for(runtime, integration=True)
    query = "command=listAccounts&response=json"
    assert answer_of(http.get(query).json())["account"][0]["name"] == "admin"
    assert http.get(query, host="localhost:8096").status_code == 200
    # a page in a browser on this machine, and a name that was made to point to it
    assert http.get(query, origin="http://evil.example").status_code == 401
    assert http.get(query, sec_fetch_site="cross-site").status_code == 401
    assert http.get(query, host="evil.example:8096").status_code == 401


def test_what_fails_inside_is_530_with_a_reference(runtime: FakeRuntime, caplog: pytest.LogCaptureFixture) -> None:
    runtime.database.close()
    (runtime.data / "gatehouse.db").unlink()
    reply = handle(runtime, Limits(), Request("GET", b"command=listZones&response=json", trusted=True))
    assert reply.status in (503, 530)
    assert b"Traceback" not in reply.body and b"sqlite" not in reply.body.lower()
