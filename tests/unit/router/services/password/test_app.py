from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from router.services.password.app import BURST, Limiter, create_app
from router.services.password.vault import Secret, Vault

GUEST, OTHER = {"REMOTE_ADDR": "10.1.1.10"}, {"REMOTE_ADDR": "10.1.1.11"}


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    made.create()
    made.put([Secret("reset-1", "10.1.1.10", "geheim ß")])
    return made


@pytest.fixture
def client(vault: Vault) -> FlaskClient:
    return create_app(vault).test_client()


def ask(client: FlaskClient, wish: str, origin: dict[str, str], path: str = "/") -> tuple[int, str]:
    # as a server passes a header field named DomU_Request on (PEP 3333)
    response = client.get(path, environ_base={**origin, "HTTP_DOMU_REQUEST": wish})
    return response.status_code, response.text


def test_protocol(client: FlaskClient) -> None:
    assert ask(client, "send_my_password", OTHER) == (200, "saved_password")
    assert ask(client, "send_my_password", GUEST) == (200, "geheim ß")
    assert ask(client, " send_my_password ", GUEST, "/any/path") == (200, "geheim ß")
    assert ask(client, "saved_password", OTHER) == (200, "saved_password")
    assert ask(client, "saved_password", GUEST) == (200, "saved_password")
    assert ask(client, "send_my_password", GUEST) == (200, "saved_password")


def test_confirmation_without_fetching_forgets_too(client: FlaskClient, vault: Vault) -> None:
    assert ask(client, "saved_password", GUEST) == (200, "saved_password")
    assert vault.is_fetched("reset-1")


def test_confirmation_is_of_what_was_sent(client: FlaskClient, vault: Vault) -> None:
    ask(client, "send_my_password", GUEST)
    vault.put([Secret("reset-2", "10.1.1.10", "newer")])
    assert ask(client, "saved_password", GUEST) == (200, "saved_password")
    assert ask(client, "send_my_password", GUEST) == (200, "newer")


def test_bad_requests(client: FlaskClient) -> None:
    assert ask(client, "SEND_MY_PASSWORD", GUEST) == (400, "bad_request")
    assert client.get("/").text == "bad_request"
    response = client.post("/", headers={"DomU-Request": "send_my_password"}, environ_base=GUEST)
    assert (response.status_code, response.text) == (405, "bad_request")


def test_nothing_is_cached(client: FlaskClient) -> None:
    response = client.get("/", headers={"DomU-Request": "send_my_password"}, environ_base=GUEST)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_rate(client: FlaskClient) -> None:
    codes = [ask(client, "send_my_password", GUEST)[0] for _ in range(BURST + 5)]
    assert codes[:BURST] == [200] * BURST and 429 in codes
    assert ask(client, "send_my_password", OTHER)[0] == 200


def test_limiter_refills_and_forgets() -> None:
    limiter = Limiter()
    assert [limiter.allow("a", 0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert limiter.allow("a", 1.0) and limiter.allow("a", 1.0) and not limiter.allow("a", 1.0)
    for number in range(10_000):
        limiter.allow(str(number), 100.0 + number)
    assert len(limiter._buckets) < 5000
