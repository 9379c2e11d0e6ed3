from __future__ import annotations

from pathlib import Path

import pytest

from router.services.password.answers import BURST, Limiter, PasswordApplication
from router.services.password.vault import Secret, Vault
from router.webserver.http import parse

GUEST, OTHER = "10.1.1.10", "10.1.1.11"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault(tmp_path)
    made.create()
    made.put([Secret("reset-1", "10.1.1.10", "geheim ß")])
    return made


@pytest.fixture
def application(vault: Vault, tmp_path: Path) -> PasswordApplication:
    made = PasswordApplication()
    made.configure({"vault": str(tmp_path)})
    return made


def ask(
    application: PasswordApplication, wish: str, address: str, path: str = "/", field: str = "DomU_Request"
) -> tuple[int, str]:
    response = application.answer(parse(f"GET {path} HTTP/1.0\r\n{field}: {wish}".encode()), address)
    return response.status, response.body.decode()


def test_protocol(application: PasswordApplication) -> None:
    assert ask(application, "send_my_password", OTHER) == (200, "saved_password")
    assert ask(application, "send_my_password", GUEST) == (200, "geheim ß")
    assert ask(application, " send_my_password ", GUEST, "/any/path") == (200, "geheim ß")
    assert ask(application, "saved_password", OTHER) == (200, "saved_password")
    assert ask(application, "saved_password", GUEST) == (200, "saved_password")
    assert ask(application, "send_my_password", GUEST) == (200, "saved_password")


def test_confirmation_without_fetching_forgets_too(application: PasswordApplication, vault: Vault) -> None:
    assert ask(application, "saved_password", GUEST) == (200, "saved_password")
    assert vault.is_fetched("reset-1")


def test_confirmation_is_of_what_was_sent(application: PasswordApplication, vault: Vault) -> None:
    ask(application, "send_my_password", GUEST)
    vault.put([Secret("reset-2", "10.1.1.10", "newer")])
    assert ask(application, "saved_password", GUEST) == (200, "saved_password")
    assert ask(application, "send_my_password", GUEST) == (200, "newer")


def test_bad_requests(application: PasswordApplication) -> None:
    assert ask(application, "SEND_MY_PASSWORD", GUEST) == (400, "bad_request")
    assert ask(application, "send_my_password", GUEST, field="Wish") == (400, "bad_request")
    response = application.answer(parse(b"DELETE / HTTP/1.0\r\nDomU_Request: send_my_password"), GUEST)
    assert (response.status, response.body) == (405, b"bad_request")
    assert application.refuse(413).body == b"bad_request"


def test_name_of_the_field_without_underscore(application: PasswordApplication) -> None:
    assert ask(application, "send_my_password", GUEST, field="DomU-Request") == (200, "geheim ß")


def test_nothing_is_cached(application: PasswordApplication) -> None:
    response = application.answer(parse(b"GET / HTTP/1.0\r\nDomU_Request: send_my_password"), GUEST)
    assert response.fields == "Cache-Control: no-store\r\n"
    assert response.kind == "text/plain; charset=utf-8"


def test_rate(application: PasswordApplication) -> None:
    codes = [ask(application, "send_my_password", GUEST)[0] for _ in range(BURST + 5)]
    assert codes[:BURST] == [200] * BURST and 429 in codes
    assert ask(application, "send_my_password", OTHER)[0] == 200


def test_limiter_refills_and_forgets() -> None:
    limiter = Limiter()
    assert [limiter.allow("a", 0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert limiter.allow("a", 1.0) and limiter.allow("a", 1.0) and not limiter.allow("a", 1.0)
    for number in range(10_000):
        limiter.allow(str(number), 100.0 + number)
    assert len(limiter._buckets) < 5000
