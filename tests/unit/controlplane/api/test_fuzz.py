"""Hostile requests: whatever is sent, the answer is in the API's shape and never an internal error."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.api.command import Command, commands
from tests.control import FakeRuntime, Http, HttpAnswer, http_for, runtime_in

#: what an answer may be; 530 would be an internal error
EXPECTED = frozenset({200, 400, 401, 405, 413, 414, 415, 429, 430, 431, 432, 531, 532, 533, 536, 537})

_FUZZ = settings(
    max_examples=150,
    deadline=None,
    # one database for all examples: what one of them changes makes the next ones more interesting
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def world(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Http, list[str]]]:
    """The API as the administrator, and ids of every kind of thing that exists."""
    runtime: FakeRuntime = runtime_in(tmp_path_factory.mktemp("fuzz"), filled)
    http = http_for(runtime, integration=True)
    ids = []
    for command in sorted(commands()):
        if command.startswith("list") and not command.startswith("listapis"):
            answer = http.get(f"command={command}&response=json&listall=true&templatefilter=all&issystem=false").json()
            [body] = answer.values()
            rows = next((value for value in body.values() if isinstance(value, list)), [])
            ids += [row["id"] for row in rows[:2] if isinstance(row, dict) and "id" in row]
    assert len(ids) > 20
    yield http, ids
    runtime.database.close()


def check(answer: HttpAnswer, sent: object) -> None:
    """The answer is well formed, and says what it is in all the places where clients look."""
    assert answer.status_code in EXPECTED, f"{sent!r}: {answer.status_code} {answer.text[:500]}"
    if answer.headers["content-type"].startswith("application/json"):
        [(key, body)] = json.loads(answer.content).items()
        assert key.isascii() and key.isalnum()
        if answer.status_code != 200:
            assert body["errorcode"] == answer.status_code
            assert body["errortext"]
            assert answer.headers["x-description"]
    else:
        assert answer.content.startswith(b'<?xml version="1.0"')


_NASTY = st.sampled_from(
    [
        "\x00",
        "a\x00b",
        "\r\nX: y",
        "-1",
        "0",
        "2147483648",
        "-9223372036854775809",
        "9" * 400,
        "NaN",
        "1e309",
        "true",
        "null",
        "' OR 1=1 --",
        "%",
        "%_%",
        "../../etc/passwd",
        "\ud7ff\ue000",
        "\U0001f9e8" * 50,
        "\u202e",
        "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ONE}",
        "a" * 5000,
        "," * 3000,
        "[]",
        "{}",
        "<x>&amp;",
        "0.0.0.0/0",
        "255.255.255.255",
        "10.1.1.1/33",
        "0x7f.1",
        "::1",
        "9999-12-31T23:59:59-2359",
        "0001-01-01",
        "2026-02-30",
        "00000000-0000-4000-8000-000000000001",
    ]
)
_VALUE = st.one_of(_NASTY, st.text(max_size=40), st.integers().map(str))


def _value_of(kind: str, ids: list[str], choices: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Mostly what the parameter is for, so that examples get past the first check."""
    sensible = {
        "uuid": st.sampled_from(ids),
        "boolean": st.sampled_from(["true", "false"]),
        "integer": st.integers(-2, 70000).map(str),
        "list": st.lists(st.sampled_from(ids) | st.text(max_size=8), max_size=4).map(",".join),
    }.get(kind, st.text(string.ascii_lowercase, min_size=1, max_size=8))
    if choices:
        sensible = st.sampled_from(choices)
    return st.one_of(sensible, sensible, sensible, _VALUE)


_FIELDS = ["key", "value", "networkid", "ip", "service", "provider", "", "x.y", "\x00"]


@st.composite
def _requests(draw: st.DrawFn, ids: list[str]) -> dict[str, str]:
    command: Command = draw(st.sampled_from([commands()[name] for name in sorted(commands())]))
    sent = {"command": command.name, "response": draw(st.sampled_from(["json", "xml", "yaml"]))}
    for parameter in command.parameters.values():
        if not (parameter.required or draw(st.integers(0, 3)) == 0):
            continue
        if parameter.kind == "map":
            for _ in range(draw(st.integers(0, 3))):
                field = draw(st.sampled_from(_FIELDS))
                index = draw(st.sampled_from(["0", "1", "-1", "99999999", "x", ""]))
                sent[f"{parameter.name}[{index}].{field}"] = draw(_VALUE)
        else:
            sent[parameter.name] = draw(_value_of(parameter.kind, ids, parameter.choices))
    if draw(st.booleans()):
        sent[draw(st.text(min_size=1, max_size=10))] = draw(_VALUE)
    return sent


@_FUZZ
@given(data=st.data())
def test_commands_with_hostile_parameters(world: tuple[Http, list[str]], data: st.DataObject) -> None:
    http, ids = world
    sent = data.draw(_requests(ids))
    form = "&".join(f"{quote(name, safe='[].')}={quote(value, safe='')}" for name, value in sent.items())
    check(http.post(form), sent)


def test_every_command_with_nasty_values_for_every_parameter(world: tuple[Http, list[str]]) -> None:
    http, _ = world
    for command in [commands()[name] for name in sorted(commands())]:
        for nasty in ("\x00", "-1", "9" * 400, "a" * 5000, "\U0001f9e8", "' OR 1=1 --", "%_", ","):
            form = "".join(f"&{name}={quote(nasty, safe='')}" for name in command.parameters)
            check(http.post(f"command={command.name}&response=json{form}"), (command.name, nasty[:20]))
        check(http.post(f"command={command.name}&response=json"), command.name)


@_FUZZ
@given(query=st.binary(max_size=300), body=st.binary(max_size=300), method=st.sampled_from(["GET", "POST"]))
def test_any_bytes(world: tuple[Http, list[str]], query: bytes, body: bytes, method: str) -> None:
    http, _ = world
    content = {"content-type": "application/x-www-form-urlencoded"}
    check(http.request(method, query=query, body=body, headers=content), (query, body))
    check(http.request(method, query=b"command=listZones&" + query, body=body, headers=content), (query, body))


@_FUZZ
@given(
    headers=st.dictionaries(
        st.sampled_from(["cookie", "content-type", "host", "origin"]), st.text(string.printable, max_size=60)
    )
)
def test_any_headers(world: tuple[Http, list[str]], headers: dict[str, str]) -> None:
    http, _ = world
    check(http.request("POST", query=b"command=listZones", body=b"a=b", headers=headers), headers)


@pytest.mark.parametrize(
    "form",
    [
        "command=" + "x" * 100_000,
        "command=listZones&" + "a=b&" * 6000,
        "command=listZones&" + "".join(f"t[{number}].key=a&" for number in range(2000)),
        "command=createTags&resourcetype=UserVm&resourceids=a&" + "".join(f"tags[{n}].key={n}&" for n in range(2000)),
        "command=createTags&resourcetype=UserVm&resourceids=a&tags[0]" + "[0]" * 3000 + ".key=a",
        "command=createTags&resourcetype=UserVm&resourceids=a&tags[0]" + ".key" * 60 + "=a",
        "command=listZones&name=" + "%F0%9F%A7%A8" * 20_000,
        "command=listZones&command=createZone",
        "command[0].x=listZones",
        "=&=&&;&command=listZones",
        "command=listZones&" + "x" * 1_500_000,
        "command=listZones&name=" + "x" * 3_000_000,
    ],
)
def test_large_and_odd_forms(world: tuple[Http, list[str]], form: str) -> None:
    check(world[0].post(form + "&response=json"), form[:80])
