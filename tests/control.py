"""A control plane without reconciler, workflows or hypervisor, for tests of the API alone."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

from controlplane.api.passwords import new_api_key
from controlplane.api.server import create_app
from controlplane.api.signing import sign, texts_to_sign
from controlplane.configuration import Configuration
from controlplane.console import sessions
from controlplane.console.consoles import NoConsoleError
from controlplane.console.endpoints import Endpoint, Starting
from controlplane.hypervisors.base import HostFacts, Hypervisor
from controlplane.pki import Authority
from controlplane.secrets import Secrets, load_secrets
from controlplane.storage import pools
from controlplane.store.database import Database
from controlplane.store.defaults import ADMIN_USER_ID, ensure_defaults
from controlplane.store.models import User
from controlplane.store.recordings import RecordingStore

FACTS = HostFacts(name="host1", hypervisor="Namespace", cpus=4, memory_bytes=8 << 30, url="namespace://host1")


@dataclass(frozen=True)
class FakeConsoles:
    """Gives every session to a proxy that has the address 203.0.113.9."""

    runtime: FakeRuntime

    def open(self, session_id: str, token: str, recorded: str | None = None, part: int = 1) -> Endpoint | Starting:
        self.runtime.opened.append(session_id)
        if recorded is not None:
            self.runtime.played.append((recorded, part))
        return Starting(token) if self.runtime.starting else Endpoint("203.0.113.9", token)

    def resume(self, token_hash: str, token: str) -> Endpoint | Starting:
        with self.runtime.database.reading() as session:
            row = sessions.waiting(session, token_hash)
        if row is None:
            raise NoConsoleError("not valid any more")
        return self.open(row.id, token)

    def delete_recordings(self, session_id: str) -> None:
        for one in self.runtime.recordings.of_session(session_id):
            self.runtime.recordings.delete(one.name)


@dataclass
class FakeRuntime:
    """Notes what the API asked of the rest of the control plane, and does none of it."""

    database: Database
    configuration: Configuration
    secrets: Secrets
    woken: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    #: console proxies are being started
    starting: bool = False
    hurried: list[str] = field(default_factory=list)
    played: list[tuple[str, int]] = field(default_factory=list)
    #: how often the hosts were asked for the newest policy
    enforced: int = 0
    #: appliances and generations that a call waited for
    reached: list[tuple[str, int]] = field(default_factory=list)
    #: how often secondary storage was looked at
    kept: int = 0
    #: for the commands about hosts, which ask the hypervisor
    double: Hypervisor | None = None
    started: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.database.engine.url.database or "").parent

    @property
    def images(self) -> Path:
        return self.data.with_name("images")

    @functools.cached_property
    def authority(self) -> Authority:
        return Authority(self.data / "pki")

    @property
    def recordings(self) -> RecordingStore:
        return RecordingStore(self.data / "recordings")

    @property
    def consoles(self) -> FakeConsoles:
        return FakeConsoles(self)

    @property
    def hypervisor(self) -> Hypervisor:
        assert self.double is not None, "API commands act on rows, not on the hypervisor"
        return self.double

    def wake(self, appliance_id: str) -> None:
        self.woken.append(appliance_id)

    def reach(self, appliance_id: str, generation: int, timeout: float) -> None:
        self.reached.append((appliance_id, generation))

    def keep_storage(self) -> None:
        self.kept += 1

    def enforce_policy(self) -> None:
        self.enforced += 1

    def hurry(self, task: str) -> None:
        self.hurried.append(task)

    def start_workflow(self, name: str, job_id: str, arguments: dict[str, Any]) -> None:
        self.started.append((name, job_id, arguments))


def fill(data_dir: Path) -> None:
    """Make a data directory with a migrated database and the defaults."""
    secrets = load_secrets(data_dir)
    database = Database.in_directory(data_dir)
    database.migrate()
    with database.transaction() as session:
        ensure_defaults(session, secrets, [FACTS], data_dir)
        pools.ensure_defaults(session, Path("/pool"))
    database.close()


def runtime_in(data_dir: Path, template: Path | None = None) -> FakeRuntime:
    """A runtime on ``data_dir``; with ``template`` on a copy of that filled directory, which is quicker."""
    if template is None:
        fill(data_dir)
    else:
        shutil.copytree(template, data_dir, dirs_exist_ok=True)
    return FakeRuntime(Database.in_directory(data_dir), Configuration(), load_secrets(data_dir))


def answer_of(body: dict[str, Any]) -> Any:
    """What is under the single top-level key."""
    [value] = body.values()
    return value


@dataclass(frozen=True)
class HttpAnswer:
    """An HTTP response. Header names are in lower case; ``cookies`` are those it sets."""

    status_code: int
    headers: dict[str, str]
    content: bytes
    cookies: dict[str, str]

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Http:
    """Calls an ASGI application directly: no socket, no process, any bytes."""

    app: ASGIApp
    client: str = "127.0.0.1"

    def get(self, query: str | bytes | Mapping[str, str], **headers: str) -> HttpAnswer:
        return self.request("GET", query=query, headers=headers)

    def post(self, form: str | bytes | Mapping[str, str], query: str | bytes = b"", **headers: str) -> HttpAnswer:
        headers.setdefault("content_type", "application/x-www-form-urlencoded")
        return self.request("POST", query=query, body=_encoded(form), headers=headers)

    def request(
        self,
        method: str,
        *,
        query: str | bytes | Mapping[str, str] = b"",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        path: str = "/client/api",
    ) -> HttpAnswer:
        sent = {"host": "127.0.0.1:8080"} | {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": _encoded(query),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": (self.client, 40000),
            "server": ("127.0.0.1", 8080),
        }
        messages: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            messages.append(message)

        async def run() -> None:
            await self.app(scope, receive, send)

        asyncio.run(run())
        start = messages[0]
        pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in start["headers"]]
        cookies: SimpleCookie = SimpleCookie()
        for name, value in pairs:
            if name == "set-cookie":
                cookies.load(value)
        content = b"".join(message.get("body", b"") for message in messages[1:])
        return HttpAnswer(
            start["status"], dict(pairs), content, {name: morsel.value for name, morsel in cookies.items()}
        )


def _encoded(parameters: str | bytes | Mapping[str, str]) -> bytes:
    if isinstance(parameters, bytes):
        return parameters
    return parameters.encode() if isinstance(parameters, str) else urlencode(parameters).encode()


@dataclass
class Caller:
    """One user's signed calls, over HTTP inside the process."""

    http: Http
    key: str
    secret: str

    def raw(self, command: str, **params: object) -> HttpAnswer:
        """The HTTP response to a signed GET."""
        sent = {"command": command, "response": "json", "apikey": self.key}
        sent |= {name.replace("__", "."): _text(value) for name, value in params.items()}
        sent["signature"] = sign(texts_to_sign(sent.items())[0], self.secret)
        return self.http.get(sent)

    def __call__(self, command: str, **params: object) -> Any:
        """The answer; an error of the API fails the test with its text."""
        response = self.raw(command, **params)
        assert response.status_code == 200, f"{command}: {response.status_code} {response.text}"
        return answer_of(response.json())

    def error(self, command: str, **params: object) -> dict[str, Any]:
        """The error of a call that must fail."""
        response = self.raw(command, **params)
        assert response.status_code >= 400, f"{command} was expected to fail: {response.text}"
        body = answer_of(response.json())
        assert body["errorcode"] == response.status_code
        assert isinstance(body, dict)
        return body


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list) else str(value)


def caller_for(runtime: FakeRuntime, http: Http, user_id: str = ADMIN_USER_ID) -> Caller:
    """Calls of a user, with new keys where it has none."""
    with runtime.database.transaction() as session:
        user = session.get_one(User, user_id)
        if user.api_key is None or user.secret_key is None:
            user.api_key, user.secret_key = new_api_key(), runtime.secrets.seal(new_api_key())
        return Caller(http, user.api_key, runtime.secrets.open(user.secret_key))


def http_for(runtime: FakeRuntime, *, integration: bool = False) -> Http:
    return Http(create_app(runtime, integration=integration))
