"""The ``cs`` client, unmodified, and curl, against a real server: catalogue calls, sessions, the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from appliance.errors import CommandError
from appliance.run import run
from tests.netns.controlplane.cloud import GATEHOUSE, Cloud

Keys = dict[str, str]


@pytest.fixture(scope="module")
def keys(cloud: Cloud) -> Keys:
    printed = json.loads(run([*GATEHOUSE, "admin-keys", "--data", str(cloud.data)]).stdout)
    assert set(printed) == {"endpoint", "apikey", "secretkey"}
    assert printed["endpoint"] == f"http://127.0.0.1:{cloud.port}/client/api"
    return dict(printed)


@pytest.fixture(params=["get", "post"])
def client(request: pytest.FixtureRequest, keys: Keys) -> CloudStack:
    return CloudStack(
        endpoint=keys["endpoint"],
        key=keys["apikey"],
        secret=keys["secretkey"],
        method=request.param,
        poll_interval=0.05,
    )


def test_catalogue_calls(client: CloudStack) -> None:
    assert client.listZones()["zone"][0]["networktype"] == "Advanced"
    assert client.listHypervisors(fetch_list=True)[0]["name"] == "Namespace"
    assert {row["name"] for row in client.listTemplates(templatefilter="executable", fetch_list=True)} == {
        "builtin",
        "bare",
    }
    assert client.listUsers(username="admin")["user"][0]["account"] == "admin"
    assert client.listCapabilities()["capability"]["supportELB"] == "false"
    assert len(client.listApis(fetch_list=True)) == client.listApis()["count"]


def test_pages_are_fetched_to_the_end(client: CloudStack) -> None:
    client.updateConfiguration(name="default.page.size", value=5)
    try:
        names = [row["description"] for row in client.listOsTypes(fetch_list=True, pagesize=5)]
    finally:
        client.updateConfiguration(name="default.page.size", value=500)
    assert len(names) == len(set(names)) == 12


def test_maps_odd_characters_and_jobs(client: CloudStack) -> None:
    template = client.listTemplates(templatefilter="featured", name="bare")["template"][0]["id"]
    odd = {"key": "a b+c~d*e/é&=%", "value": "[x] 100% 'quoted' \U0001f9e8"}
    assert client.createTags(resourceids=[template], resourcetype="Template", tags=[odd], fetch_result=True) == {
        "success": True
    }
    [tag] = client.listTags(listall=True, key=odd["key"])["tag"]
    assert (tag["key"], tag["value"], tag["resourceid"]) == (odd["key"], odd["value"], template)
    client.deleteTags(resourceids=[template], resourcetype="Template", tags=odd, fetch_result=True)
    assert client.listTags(listall=True) == {}


def test_an_error_reaches_the_caller(client: CloudStack) -> None:
    with pytest.raises(CloudStackApiException) as caught:
        client.listZones(id="gone")
    assert caught.value.error["errorcode"] == 431
    assert "due to incorrect long value format, or entity does not exist" in caught.value.error["errortext"]


def test_wrong_keys(keys: Keys) -> None:
    for wrong in (keys | {"apikey": "x"}, keys | {"secretkey": "x"}):
        stranger = CloudStack(endpoint=keys["endpoint"], key=wrong["apikey"], secret=wrong["secretkey"])
        with pytest.raises(CloudStackApiException) as caught:
            stranger.listZones()
        assert caught.value.response.status_code == 401


def test_the_cs_program(keys: Keys) -> None:
    environment = [
        f"CLOUDSTACK_ENDPOINT={keys['endpoint']}",
        f"CLOUDSTACK_KEY={keys['apikey']}",
        f"CLOUDSTACK_SECRET={keys['secretkey']}",
    ]
    program = str(Path(sys.executable).parent / "cs")
    answer = json.loads(run(["env", *environment, program, "listServiceOfferings", "name=Small Instance"]).stdout)
    assert answer["serviceoffering"][0]["memory"] == 512


def _curl(cloud: Cloud, *arguments: str) -> str:
    return run(["curl", "--silent", "--max-time", "10", *arguments, f"http://127.0.0.1:{cloud.port}/client/api"]).stdout


@pytest.fixture
def session(cloud: Cloud, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(cookie jar, session key) of a login with the password that the first start made."""
    login = json.loads((cloud.data / "admin.json").read_text())
    jar = str(tmp_path / "jar")
    form = ("--data", "command=login", "--data", "response=json", "--data", f"username={login['username']}")
    answer = json.loads(_curl(cloud, "--cookie-jar", jar, *form, "--data-urlencode", f"password={login['password']}"))
    yield jar, answer["loginresponse"]["sessionkey"]


def test_a_session_with_a_cookie_jar(cloud: Cloud, session: tuple[str, str]) -> None:
    jar, key = session
    answer = _curl(cloud, "--cookie", jar, "--get", "--data", "command=listZones", "--data", f"sessionkey={key}")
    assert answer.startswith('<?xml version="1.0" encoding="UTF-8"?><listzonesresponse cloud-stack-version=')
    without_key: dict[str, Any] = json.loads(
        _curl(cloud, "--cookie", jar, "--get", "--data", "command=listZones", "--data", "response=json")
    )
    assert without_key["listzonesresponse"]["errorcode"] == 401


def test_status_and_exit_codes(cloud: Cloud, keys: Keys, tmp_path: Path) -> None:
    shown = json.loads(run([*GATEHOUSE, "status", "--json", "--data", str(cloud.data)]).stdout)
    assert (shown["running"], shown["endpoint"]) == (True, keys["endpoint"])
    for arguments, code, text in (
        (["admin-keys", "--data", str(tmp_path)], 1, "is not the data directory of a control plane"),
        (["exec", "--data", str(cloud.data), "nobody", "--", "true"], 1, "there is no guest or router nobody"),
        (["serve", "--data", str(cloud.data), "--listen", "127.0.0.1:1"], 1, "is in use by a control plane"),
        (["serve", "--listen", "8080"], 2, "is not ADDR:PORT"),
        (["no-such-command"], 2, "invalid choice"),
    ):
        with pytest.raises(CommandError) as caught:
            run([*GATEHOUSE, *arguments])
        assert caught.value.code == code
        assert text in caught.value.stderr
    # a second process that was refused has not changed what clients are told
    assert json.loads((cloud.data / "serve.json").read_text())["endpoint"] == keys["endpoint"]


def test_secrets_are_private_and_not_in_the_log(cloud: Cloud, keys: Keys, session: tuple[str, str]) -> None:
    assert cloud.data.stat().st_mode & 0o077 == 0
    log = cloud.log.read_text()
    password = json.loads((cloud.data / "admin.json").read_text())["password"]
    assert "login" in log
    for secret in (keys["apikey"], keys["secretkey"], password, session[1], "signature="):
        assert secret not in log
