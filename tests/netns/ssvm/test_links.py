"""Files that people send and get, and objects that one SSVM gets from another."""

from __future__ import annotations

import copy
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.netns.ssvm.world import FILES, NAME, SSVM, STORE, World
from tests.wait import wait_for

PAGE = "https://cloud.example"
OTHER = "203.0.113.11"


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def soon(seconds: float = 120) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture(scope="module")
def client(world: World) -> World:
    """The machine of the internet trusts the SSVM's certificate and has an image."""
    world.origin.write("/run/ca.pem", world.certificate)
    world.image("mine.qcow2")
    world.push(origins=[PAGE])
    return world


def curl(world: World, url: str, *options: str) -> tuple[int, str]:
    trusting = ["--cacert", "/run/ca.pem", "--connect-to", f"{NAME}::{SSVM}:"]
    return world.origin.http(f"https://{NAME}{url}", *trusting, *options, timeout=20)


def upload(world: World, **more: Any) -> tuple[str, str]:
    """A new upload in the document: the path it is sent to, and its token."""
    token = secrets.token_urlsafe(32)
    job = {"format": "qcow2", "size_limit": 1 << 20, "token_hash": hashed(token), "expires": soon(), **more}
    return world.add("upload", **job), token


@pytest.mark.any_hypervisor
@pytest.mark.parametrize("options", [["-F", f"file=@{FILES}/mine.qcow2"], ["--data-binary", f"@{FILES}/mine.qcow2"]])
def test_an_upload_is_taken_once(client: World, options: list[str]) -> None:
    id, token = upload(client)
    assert client.job(id).state == "waiting"
    signed = ["-H", f"X-signature: {token}", "-H", "X-metadata: x", "-H", "X-expires: y", "-H", f"Origin: {PAGE}"]
    assert curl(client, f"/upload/{id}", *options)[0] == 403
    assert curl(client, f"/upload/{id}", *options, "-H", "X-signature: guessed")[0] == 403
    status, body = curl(client, f"/upload/{id}", *options, *signed, "-i")
    assert (status, f"access-control-allow-origin: {PAGE}" in body.lower()) == (200, True)
    assert client.done(id).result is not None
    assert client.sha256(client.ssvm, f"{STORE}/objects/{id}") == client.sha256(client.origin, f"{FILES}/mine.qcow2")
    assert curl(client, f"/upload/{id}", *options, *signed)[0] == 403


def test_uploads_that_are_refused(client: World) -> None:
    id, token = upload(client, size_limit=1000)
    send = ["--data-binary", f"@{FILES}/mine.qcow2", "-H", f"X-signature: {token}"]
    assert curl(client, f"/upload/{id}", *send)[0] == 413
    assert curl(client, f"/upload/{id}", *send, "-H", "Origin: https://evil.example")[0] == 403
    late, its_token = upload(client, expires=soon(0))
    client.failed(late, "expired")
    assert curl(client, f"/upload/{late}", "--data-binary", "x", "-H", f"X-signature: {its_token}")[0] == 403
    wrong, its_token = upload(client)
    assert curl(client, f"/upload/{wrong}", "--data-binary", "no image", "-H", f"X-signature: {its_token}")[0] == 200
    client.failed(wrong, "format")


def test_an_upload_that_breaks_may_be_sent_again(client: World) -> None:
    id, token = upload(client)
    send = ["-H", f"X-signature: {token}", "--data-binary", f"@{FILES}/mine.qcow2"]
    curl(client, f"/upload/{id}", *send, "--limit-rate", "40K", "-m", "2")
    wait_for(lambda: client.job(id).state == "waiting", 20, "the upload to be waited for again")
    assert curl(client, f"/upload/{id}", *send)[0] == 200
    client.done(id)


def test_browsers_ask_before_they_send(client: World) -> None:
    id, _ = upload(client)
    ask = ["-X", "OPTIONS", "-i", "-H", "Access-Control-Request-Method: POST"]
    status, head = curl(client, f"/upload/{id}", *ask, "-H", f"Origin: {PAGE}")
    assert (status, "X-signature" in head) == (204, True)
    assert curl(client, f"/upload/{id}", *ask, "-H", "Origin: https://evil.example")[0] == 403


def link(world: World, path: str, **more: Any) -> str:
    token = secrets.token_urlsafe(32)
    entry = {"id": f"link-{world.lab.number()}", "store": "primary", "path": path, "expires": soon(), **more}
    if "peer" not in more:
        entry |= {"token_hash": hashed(token), "name": "mine.qcow2"}
    world.push(links=[*world.state["storage"]["links"], entry])
    return f"/extract/{token}/mine.qcow2" if "peer" not in more else str(entry["id"])


@pytest.mark.any_hypervisor
def test_a_link(client: World) -> None:
    id = client.download("mine.qcow2")
    client.done(id)
    url = link(client, f"objects/{id}")
    get = f"{FILES}/got"
    assert curl(client, url, "-o", get)[0] == 200
    assert client.sha256(client.origin, get) == client.sha256(client.origin, f"{FILES}/mine.qcow2")
    # in two pieces, as a browser goes on with a broken download
    client.origin.run(["sh", "-c", f"head -c 1000 {get} >{get}.part"])
    assert curl(client, url, "-C", "-", "-o", f"{get}.part")[0] == 206
    assert client.sha256(client.origin, get) == client.sha256(client.origin, f"{get}.part")
    assert curl(client, url, "-r", "0-9", "-H", 'If-Range: "another"', "-o", "/dev/null")[0] == 200
    assert curl(client, url, "-r", "99999999-")[0] == 416
    [report] = [one for one in client.report().links if one.requests]
    assert report.sent > 196_000
    for other in (url[:-12] + "x/mine.qcow2", "/extract/x/mine.qcow2", url.replace("mine", "other")):
        assert curl(client, other)[0] == 404
    client.push(links=[])
    assert curl(client, url)[0] == 404


def test_links_end(client: World) -> None:
    id = client.download("mine.qcow2")
    client.done(id)
    url = link(client, f"objects/{id}", expires=soon(6))
    assert curl(client, url, "-o", "/dev/null")[0] == 200
    wait_for(lambda: curl(client, url)[0] == 404, 20, "the link to expire")
    gone = link(client, "objects/none")
    assert curl(client, gone)[0] == 404


@pytest.fixture(scope="module")
def other(client: World) -> World:
    """Another zone's SSVM, and certificates for both."""
    world = client
    state = copy.deepcopy(world.state)
    nics = state["interfaces"]["interfaces"]
    public = world.ssvm.spec.nics[1].segment
    nics[0], nics[1]["mac"], nics[1]["addresses"] = world.lab.control("eth0"), world.lab.mac(), [f"{OTHER}/24"]
    del nics[2]
    state["storage"] |= {"jobs": [], "links": []}
    second = world.lab.router(state, role="ssvm", segments={"eth0": "control", "eth1": public}, memory_mb=512, far=True)
    for router, section in ((world.ssvm, world.state), (second, state)):
        made = world.lab.authority.issue_peer(router.id)
        section["storage"]["peer"] = {
            "certificate": made.certificate.decode(),
            "key": made.key.decode(),
            "ca": world.lab.authority.certificate.decode(),
        }
    world.push()
    made_of = World(world.lab, second, world.origin, world.inner, state, world.certificate)
    made_of.push()
    return made_of


@pytest.mark.any_hypervisor
def test_an_object_is_copied_between_zones(client: World, other: World) -> None:
    id = client.download("mine.qcow2")
    result = client.done(id).result
    assert result is not None
    for_them = link(client, f"objects/{id}", peer=other.ssvm.id)
    for_others = link(client, f"objects/{id}", peer="s-elsewhere")
    wanted = {"checksum": result.object_checksum, "size": result.physical_size, "format": "qcow2"}
    url = f"https://{SSVM}:8443/peer"
    copied = other.add("copy", url=f"{url}/{for_them}", peer=client.ssvm.id, **wanted)
    assert other.done(copied).result == result
    assert "404" in other.failed(other.add("copy", url=f"{url}/{for_others}", peer=client.ssvm.id, **wanted), "http")
    # a link for appliances is of no use to people, nor to an SSVM that takes another for the source
    assert curl(client, f":8443/peer/{for_them}")[0] == 0
    other.failed(other.add("copy", url=f"{url}/{for_them}", peer="s-elsewhere", **wanted), "connection")
    lie = {**wanted, "checksum": f"sha256:{'0' * 64}"}
    other.failed(other.add("copy", url=f"{url}/{for_them}", peer=client.ssvm.id, **lie), "checksum")


@pytest.mark.any_hypervisor
def test_objects_are_made_of_others(client: World) -> None:
    id = client.download("mine.qcow2")
    client.done(id)
    source = {"source_store": "primary", "source_path": f"objects/{id}", "format": "qcow2"}
    raw = client.done(client.add("convert", **source, target_format="raw")).result
    same = client.done(client.add("convert", **source)).result
    assert raw is not None
    assert same is not None
    assert (raw.format, raw.physical_size, same.object_checksum) == (
        "raw",
        64 << 20,
        client.sha256(client.origin, f"{FILES}/mine.qcow2"),
    )
    client.failed(client.add("convert", **{**source, "source_path": "objects/none"}), "store")
