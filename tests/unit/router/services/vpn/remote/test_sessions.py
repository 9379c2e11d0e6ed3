"""Who is connected, as told by charon and pppd, and what of it is logged; and whose session must end."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from router.services.vpn.remote.bring import barred
from router.services.vpn.remote.ike import name
from router.services.vpn.remote.sessions import LOG_LENGTH, Session, Sessions, end, ikev2_sessions, l2tp_sessions
from tests.unit.router.services.vpn.remote.test_ike import access

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)


def _association(**changes: Any) -> dict[str, Any]:
    return {
        "uniqueid": b"7",
        "state": b"ESTABLISHED",
        "established": b"30",
        "remote-host": b"198.51.100.1",
        "remote-eap-id": b"ann",
        "remote-vips": [b"10.3.1.12"],
        **changes,
    }


def _session(user: str = "ann", **changes: Any) -> Session:
    values = {
        "address": "203.0.113.2",
        "protocol": "l2tp",
        "client": "10.3.1.2",
        "peer": "198.51.100.1",
        "since": NOW,
        "handle": "1",
    }
    return Session(user=user, **{**values, **changes})


def _peer_of(address: str, pid: str) -> str:
    return "198.51.100.1"


def test_sessions_of_charon() -> None:
    key = name(access(), "ikev2")
    [found] = ikev2_sessions([(key, _association()), ("office.0123456789", _association())], NOW)
    assert (found.address, found.user, found.client, found.handle) == ("203.0.113.2", "ann", "10.3.1.12", "7")
    assert found.since == datetime(2026, 3, 1, 12, tzinfo=UTC)
    begun = _association(state=b"CONNECTING")
    without = _association()
    del without["remote-vips"]
    assert list(ikev2_sessions([(key, begun), (key, without)], NOW)) == []


def test_notes_of_pppd(tmp_path: Path) -> None:
    (tmp_path / "12").write_text("203.0.113.2\nann\n10.3.1.2\n")
    (tmp_path / ".13").write_text("half")
    (tmp_path / "14").write_text("203.0.113.2\n")
    [found] = l2tp_sessions(tmp_path, _peer_of)
    assert found == _session()
    assert found.handle == "12"


def test_connects_and_disconnects_are_logged_once(tmp_path: Path) -> None:
    watch = Sessions(tmp_path / "no-charon", tmp_path, _peer_of)
    watch.see([_session()])
    watch.see([_session(handle="2")])
    watch.see([_session(handle="2"), _session("bob", client="10.3.1.3")])
    watch.see([_session("bob", client="10.3.1.3")])
    report = watch.report("203.0.113.2")
    assert [(one["event"], one["user"]) for one in report["log"]] == [
        ("connect", "ann"),
        ("connect", "bob"),
        ("disconnect", "ann"),
    ]
    numbers = [one["number"] for one in report["log"]]
    assert numbers == sorted(set(numbers))
    assert report["sessions"] == [
        {
            "user": "bob",
            "protocol": "l2tp",
            "client": "10.3.1.3",
            "peer": "198.51.100.1",
            "since": "2026-03-01T12:00:30Z",
        }
    ]
    assert watch.report("203.0.113.3") == {"sessions": [], "log": []}


def test_a_visit_that_is_over_is_logged_and_the_log_is_bounded(tmp_path: Path) -> None:
    watch = Sessions(tmp_path / "no-charon", tmp_path, _peer_of)
    # no process has this number (proc(5), pid_max)
    (tmp_path / "99999999").write_text("203.0.113.2\nann\n10.3.1.2\n")
    watch.see(watch._of_pppd())
    assert [one["event"] for one in watch.report("203.0.113.2")["log"]] == ["connect", "disconnect"]
    assert list(tmp_path.iterdir()) == []
    for _ in range(LOG_LENGTH):
        watch.see([_session()])
        watch.see([])
    assert len(watch.report("203.0.113.2")["log"]) == LOG_LENGTH


def test_a_process_that_got_the_number_of_a_pppd_is_no_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, own, killed = Sessions(tmp_path / "no-charon", tmp_path, _peer_of), str(os.getpid()), []
    (tmp_path / own).write_text("203.0.113.2\nann\n10.3.1.2\n")
    assert watch._of_pppd() == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "kill", lambda *arguments: killed.append(arguments))
    end([_session(handle=own)], tmp_path / "no-charon")
    assert killed == []


def test_whose_session_must_end() -> None:
    before = access()
    ann, bob = _session(), _session("bob@example.com", protocol="ikev2")
    elsewhere = _session(address="203.0.113.9")
    assert barred([ann, bob], [before], [before]) == []
    assert barred([ann, bob], [], [before]) == []
    users = [{"name": "ann", "password": "Ann's secret"}]
    assert barred([ann, bob], [before], [access(users=users)]) == [bob]
    users = [{"name": "ann", "password": "new"}, {"name": "bob@example.com", "password": "#bob"}]
    assert barred([ann, bob], [before], [access(users=users)]) == [ann]
    assert barred([ann, bob], [before], [access(psk="new")]) == [ann]
    assert barred([elsewhere], [before], [before]) == [elsewhere]
