"""Sessions from their use to their end, on a real ledger and links that are none."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from consoleproxy.services.console.model import Console
from consoleproxy.services.console.relay.ledger import KEEP, Ledger
from consoleproxy.services.console.relay.link import Link
from consoleproxy.services.console.relay.registry import Live, RefusedError, Registry

CLIENT = "203.0.113.50"


class Connection:
    """What the registry sees of a link."""

    def __init__(self) -> None:
        self.client, self.began, self.last_input = CLIENT, time.time(), time.monotonic()
        self.sent = self.received = 7
        self.closed: list[int] = []

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)


def console(*tokens: str, **more: Any) -> Console:
    expires = (datetime.now(UTC) + timedelta(seconds=more.pop("seconds", 60))).isoformat()
    sessions = [
        {
            "id": f"of-{token}",
            "token_hash": hashlib.sha256(token.encode()).hexdigest(),
            "vm": "vm-1",
            "target": {"kind": "vnc", "host": "10.9.0.1", "port": 5901},
            "policy": more.get("policy", {}),
            "expires": expires,
        }
        for token in tokens
    ]
    fields = {name: value for name, value in more.items() if name != "policy"}
    return Console.model_validate({"sessions": sessions, **fields})


async def opened(registry: Registry, token: str) -> tuple[Live, Connection, str]:
    live = registry.by_token(token, CLIENT)
    secret = await registry.use(live, CLIENT)
    link = Connection()
    registry.connect(live, cast(Link, link))
    return live, link, secret


async def whats(registry: Registry) -> list[str]:
    return [record["what"] for record in await registry.records()]


def refusal(registry: Registry, token: str) -> str:
    with pytest.raises(RefusedError) as caught:
        registry.by_token(token, CLIENT)
    return caught.value.state


def test_once(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a"))
        live = registry.by_token("a", CLIENT)
        uses = await asyncio.gather(*(registry.use(live, CLIENT) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(use, str) for use in uses) == 1
        assert refusal(registry, "a") == "used"
        assert refusal(registry, "b") == "unknown"
        registry.close()
        # a relay that comes after it, and one whose document was lost and came back
        for between in (console(), console("a")):
            again = Registry(Ledger(tmp_path / "l"), between)
            again.load(console("a"))
            assert refusal(again, "a") in ("used", "ended")
            again.close()

    asyncio.run(body())


def test_the_way_back(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a", "b"))
        _, first, secret = await opened(registry, "a")
        _, _, other = await opened(registry, "b")
        live = registry.by_secret("of-a", secret, "198.51.100.7")
        for session, wrong in (("of-a", other), ("of-a", ""), ("of-b", secret), ("of-c", secret)):
            with pytest.raises(RefusedError):
                registry.by_secret(session, wrong, CLIENT)
        registry.connect(live, cast(Link, Connection()))
        assert first.closed == [4003]
        registry.disconnected(live, cast(Link, first), "too late")
        assert live.link is not None, "the older link's end is not the newer one's"
        assert await whats(registry) == ["connected", "connected", "disconnected", "connected"]
        registry.close()

    asyncio.run(body())


def test_the_way_back_to_what_the_cloud_ended(tmp_path: Path) -> None:
    """The screen went first, and the browser comes back when the session has left the document."""

    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a"))
        live, link, secret = await opened(registry, "a")
        registry.disconnected(live, cast(Link, link), "the machine's screen went away")
        registry.load(console())
        for presented, state in ((secret, "ended"), ("another", "unknown")):
            with pytest.raises(RefusedError) as refused:
                registry.by_secret("of-a", presented, CLIENT)
            assert refused.value.state == state
        registry.close()

    asyncio.run(body())


def test_a_session_is_forgotten_a_day_after_it_left_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        now = time.time()
        registry = Registry(Ledger(tmp_path / "l"), console("a", "b", seconds=200_000))
        _, _, secret = await opened(registry, "a")
        _, _, kept = await opened(registry, "b")
        for later, state in ((KEEP - 60, "ended"), (KEEP + 60, "unknown")):
            registry.load(console("b", seconds=200_000))
            monkeypatch.setattr(time, "time", lambda later=later: now + later)
            registry.load(console("b", seconds=200_000))
            with pytest.raises(RefusedError) as refused:
                registry.by_secret("of-a", secret, CLIENT)
            assert refused.value.state == state
        assert registry.by_secret("of-b", kept, CLIENT)
        registry.close()
        ledger = Ledger(tmp_path / "l")
        assert set(ledger.used()) == {"of-b"}
        ledger.close()

    asyncio.run(body())


def test_a_relay_that_was_killed(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a"))
        _, _, secret = await opened(registry, "a")
        await registry.records()
        again = Registry(Ledger(tmp_path / "l"), console("a"))
        assert await whats(again) == ["connected", "disconnected"]
        assert again.by_secret("of-a", secret, CLIENT)

    asyncio.run(body())


def test_ends(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("gone", "idle", "long", "left"))
        links = {}
        for token in ("gone", "idle", "long", "left"):
            _, links[token], _ = await opened(registry, token)
        registry.load(console("idle", "long", "left", idle_limit=100, length_limit=1000, reconnect_limit=10))
        assert links["gone"].closed == [4000]
        links["idle"].last_input -= 101
        registry.tick()
        assert links["idle"].closed == [4001]
        left = registry.sessions["of-left"]
        registry.disconnected(left, cast(Link, links["left"]), "closed by the browser")
        assert left.used is not None
        object.__setattr__(left.used, "left", time.time() - 11)
        long = registry.sessions["of-long"]
        assert long.used is not None
        object.__setattr__(long.used, "used", time.time() - 1001)
        registry.tick()
        registry.tick()
        assert links["long"].closed == [4002]
        ended = {
            record["session"]: record["reason"] for record in await registry.records() if record["what"] == "ended"
        }
        assert ended == {
            "of-gone": "ended by the cloud",
            "of-idle": "idle for too long",
            "of-long": "reached its maximum length",
            "of-left": "nobody came back",
        }
        registry.close()

    asyncio.run(body())


def test_a_session_that_is_taken_away_while_it_is_opened(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a"))
        opening = asyncio.ensure_future(registry.use(registry.by_token("a", CLIENT), CLIENT))
        await asyncio.sleep(0)
        registry.load(console())
        with pytest.raises(RefusedError) as caught:
            await opening
        assert caught.value.state == "ended"
        registry.close()

    asyncio.run(body())


def test_expired_and_bound(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a", seconds=-1))
        assert refusal(registry, "a") in ("expired", "used")
        assert await whats(registry) == ["ended"]
        registry.load(console("b", policy={"client": "198.51.100.7"}))
        assert refusal(registry, "b") == "unknown"
        assert registry.by_token("b", "198.51.100.7")
        registry.close()

    asyncio.run(body())


def test_records_go_when_they_were_taken_in(tmp_path: Path) -> None:
    async def body() -> None:
        registry = Registry(Ledger(tmp_path / "l"), console("a", "b"))
        await opened(registry, "a")
        await opened(registry, "b")
        first, second = await registry.records()
        assert (first["number"], second["number"]) == (1, 2)
        registry.load(console("a", "b", acknowledged=1))
        assert [record["number"] for record in await registry.records()] == [2]
        registry.load(console("a", "b", acknowledged=2))
        assert await registry.records() == []
        registry.load(console("b", acknowledged=2))
        assert [record["number"] for record in await registry.records()] == [3, 4]
        registry.close()

    asyncio.run(body())
