"""Consoles from the row to the proxy's document and back: proxies that come and go, sessions given and taken away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from controlplane.api.passwords import token_hash
from controlplane.console import recordings, sessions
from controlplane.console.consoles import Consoles, NoConsoleError
from controlplane.console.endpoints import Endpoint, Starting
from controlplane.console.keeper import Keeper
from controlplane.convergence.roles import desire_setting
from controlplane.errors import ApiError
from controlplane.hypervisors.base import ConsoleTarget, HypervisorError
from controlplane.store.models import Appliance, ConsoleSession, PublicIp, User, Vm
from controlplane.workflows import appliances, systemvms, vms
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import FakeAgent, Fleet
from tests.wait import wait_for


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, monkeypatch)
    # nothing here takes long, but on a machine with much else to do
    monkeypatch.setattr(appliances, "PATIENCE", 60.0)
    monkeypatch.setattr("controlplane.console.consoles.START_WAIT", 60.0)
    fleet.reconciler.start()
    yield fleet
    fleet.close()


@pytest.fixture
def keeper(fleet: Fleet) -> Iterator[Keeper]:
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, "consoleproxy.loadscan.interval", "100")
    made = Keeper(fleet.core, fleet.reconciler, Locks())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def flow(fleet: Fleet) -> Flow:
    return Flow(fleet.core, fleet.reconciler, Locks(), None, lambda _name, function: function())


@pytest.fixture
def consoles(fleet: Fleet, keeper: Keeper) -> Consoles:
    return Consoles(fleet.core, fleet.reconciler, keeper)


def running_vm(fleet: Fleet, flow: Flow, name: str = "net") -> str:
    with fleet.database.transaction() as session:
        rows = fleet.in_session(session)
        vm = rows.vm(rows.network(name=name))
        vm.state = "Starting"
    vms.deploy_vm(flow, vm.id)
    return vm.id


def asked(fleet: Fleet, vm_id: str, token: str = "secret-token") -> str:
    """The row that createConsoleEndpoint commits."""
    with fleet.database.transaction() as session:
        row = sessions.create(
            session,
            vm=session.get_one(Vm, vm_id),
            user=session.get_one(User, fleet.user_id),
            token_hash=token_hash(token),
            policy={"view_only": True},
            login=None,
            creator_address="192.0.2.7",
        )
        return row.id


def proxies(fleet: Fleet) -> list[Appliance]:
    with fleet.database.reading() as session:
        there = select(Appliance).where(Appliance.role == "consoleproxy", Appliance.removed.is_(None))
        return list(session.scalars(there.order_by(Appliance.created)))


def served(fleet: Fleet) -> FakeAgent:
    """The agent of the only proxy."""
    [proxy] = proxies(fleet)
    return fleet.agents[proxy.id]


def shown(endpoint: Endpoint | Starting) -> Endpoint:
    assert isinstance(endpoint, Endpoint)
    return endpoint


def sessions_of(agent: FakeAgent) -> list[str]:
    return [session["id"] for session in agent.pushed[-1]["state"]["console"]["sessions"]]


def setting(fleet: Fleet, name: str, value: str) -> None:
    with fleet.database.transaction() as session:
        fleet.core.configuration.set(session, name, value)
        woken = desire_setting(session, name)
    for proxy_id in woken:
        fleet.reconciler.wake(proxy_id)


def test_the_first_console_brings_a_proxy_that_has_the_session_when_the_call_returns(
    fleet: Fleet, flow: Flow, consoles: Consoles
) -> None:
    vm_id = running_vm(fleet, flow)
    session_id = asked(fleet, vm_id)
    endpoint = shown(consoles.open(session_id, "secret-token"))
    [proxy] = proxies(fleet)
    assert (proxy.state, [nic["role"] for nic in proxy.nics]) == ("Running", ["control", "public"])
    assert proxy.id in fleet.hypervisor.running
    state = fleet.agents[proxy.id].pushed[-1]["state"]
    public = next(nic for nic in state["interfaces"]["interfaces"] if nic["role"] == "public")
    assert public["addresses"] == [f"{endpoint.host}/24"] and public["gateway"] == "198.51.100.1"
    [session] = state["console"]["sessions"]
    assert session["id"] == session_id and session["vm"] == vm_id
    assert session["token_hash"] == token_hash("secret-token")
    assert session["target"] == {
        "kind": "vnc",
        "host": "169.254.0.1",
        "port": 5900,
        "security": "vnc",
        "password": "s3cret12",
    }
    assert session["policy"]["view_only"] is True
    assert "BEGIN CERTIFICATE" in state["console"]["certificate"]["certificate"]
    assert endpoint == Endpoint(public["addresses"][0].split("/")[0], "secret-token")
    assert endpoint.url == f"https://{endpoint.host}/console/?token=secret-token"


def test_neither_token_nor_password_is_kept_in_the_clear(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    consoles.open(asked(fleet, running_vm(fleet, flow)), "secret-token")
    database = Path(fleet.database.engine.url.database or "")
    stored = b"".join(path.read_bytes() for path in database.parent.glob("gatehouse.db*"))
    assert b"secret-token" not in stored and b"s3cret12" not in stored
    assert token_hash("secret-token").encode() in stored


def test_a_session_waits_for_a_proxy_that_takes_long_to_start(
    fleet: Fleet, flow: Flow, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id, boots = running_vm(fleet, flow), threading.Event()
    for name in ("START_WAIT", "RESUME_WAIT"):
        monkeypatch.setattr(f"controlplane.console.consoles.{name}", 0.3)

    def wait(instance_id: str) -> None:
        assert boots.wait(30)

    fleet.hypervisor.fail = wait
    session_id, token = asked(fleet, vm_id), "secret-token"
    assert consoles.open(session_id, token) == Starting(token)
    assert consoles.resume(token_hash(token), token) == Starting(token)
    assert fleet.read(ConsoleSession, session_id).state == "Pending"
    with pytest.raises(NoConsoleError, match="not valid any more"):
        consoles.resume(token_hash("guessed"), "guessed")
    boots.set()
    endpoint = wait_for(lambda: shown(consoles.resume(token_hash(token), token)), 30, "the proxy")
    assert endpoint.token == token and sessions_of(served(fleet)) == [session_id]
    # its link is told once
    with pytest.raises(NoConsoleError, match="not valid any more"):
        consoles.resume(token_hash(token), token)


def test_who_waits_for_a_proxy_that_cannot_start_is_told(
    fleet: Fleet, flow: Flow, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id, boots = running_vm(fleet, flow), threading.Event()
    for name in ("START_WAIT", "RESUME_WAIT"):
        monkeypatch.setattr(f"controlplane.console.consoles.{name}", 0.3)

    def fail(instance_id: str) -> None:
        assert boots.wait(30)
        raise HypervisorError("no room on any host")

    fleet.hypervisor.fail = fail
    session_id, token = asked(fleet, vm_id), "secret-token"
    assert consoles.open(session_id, token) == Starting(token)
    boots.set()

    def told() -> bool:
        with pytest.raises(NoConsoleError, match="no console proxy with room"):
            consoles.resume(token_hash(token), token)
        return True

    wait_for(told, 30, "the failure")
    assert fleet.read(ConsoleSession, session_id).state == "Ended"


def test_a_zone_without_a_free_public_address_says_so_and_the_session_is_over(
    fleet: Fleet, flow: Flow, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = running_vm(fleet, flow)
    with fleet.database.transaction() as session:
        fleet.in_session(session).public.end_ip = fleet.rows.public.start_ip
    session_id = asked(fleet, vm_id)
    with pytest.raises(NoConsoleError, match="no console proxy with room"):
        consoles.open(session_id, "secret-token")
    assert fleet.read(ConsoleSession, session_id).state == "Ended"
    assert proxies(fleet) == []


def test_a_guest_that_does_not_run_has_no_console(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    fleet.hypervisor.stop(vm_id)
    session_id = asked(fleet, vm_id)
    with pytest.raises(NoConsoleError, match="does not run"):
        consoles.open(session_id, "secret-token")
    assert fleet.read(ConsoleSession, session_id).reason == f"{vm_id} does not run"


def test_what_the_proxy_reports_is_taken_in_once_and_acknowledged(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    agent = served(fleet)
    begun = time.time()
    records = [
        {"number": 1, "session": session_id, "what": "connected", "client": "192.0.2.9", "time": begun},
        {
            "number": 2,
            "session": session_id,
            "what": "disconnected",
            "client": "192.0.2.9",
            "reason": "the browser left",
            "time": begun + 12,
            "began": begun,
            "sent": 3000,
            "received": 40,
        },
    ]
    agent.reports = {"console": {"records": records[:1]}}
    wait_for(lambda: fleet.read(ConsoleSession, session_id).state == "Open")
    assert fleet.read(ConsoleSession, session_id).client_address == "192.0.2.9"
    # not taken in twice, though it is reported until it was acknowledged
    agent.reports = {"console": {"records": records}}
    wait_for(lambda: agent.pushed[-1]["state"]["console"]["acknowledged"] == 2)
    records.append({"number": 3, "session": session_id, "what": "ended", "reason": "nobody came back", "time": begun})
    wait_for(lambda: fleet.read(ConsoleSession, session_id).state == "Ended")
    row = fleet.read(ConsoleSession, session_id)
    assert (row.bytes_sent, row.bytes_received, row.reason) == (3000, 40, "nobody came back")
    assert row.password is None
    wait_for(lambda: sessions_of(agent) == [])
    [text] = fleet.events("VNC.CONNECT")
    assert "user alice of account alice connected from 192.0.2.9" in text
    [text] = fleet.events("VNC.DISCONNECT")
    assert "the browser left; 12 s, 3000 bytes sent, 40 bytes received" in text


def test_stopping_the_guest_takes_its_sessions_from_the_proxy(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id, other = running_vm(fleet, flow), running_vm(fleet, flow, "net2")
    used, unused, kept = asked(fleet, vm_id), asked(fleet, vm_id, "token-2"), asked(fleet, other, "token-3")
    for session_id, token in ((used, "secret-token"), (unused, "token-2"), (kept, "token-3")):
        consoles.open(session_id, token)
    agent = served(fleet)
    assert set(sessions_of(agent)) == {used, unused, kept}
    agent.reports = {"console": {"records": [{"number": 1, "session": used, "what": "connected", "time": time.time()}]}}
    wait_for(lambda: fleet.read(ConsoleSession, used).state == "Open")
    vms.stop_vm(flow, vm_id, True)
    wait_for(lambda: sessions_of(agent) == [kept])
    # what was open is over when the proxy says so
    assert fleet.read(ConsoleSession, used).state == "Closing"
    assert fleet.read(ConsoleSession, unused).state == "Ended"
    assert fleet.read(ConsoleSession, used).reason == "the virtual machine was stopped"


def test_an_unused_session_ends(
    fleet: Fleet, flow: Flow, consoles: Consoles, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    with fleet.database.transaction() as session:
        row = session.get_one(ConsoleSession, session_id)
        row.expires -= sessions.TOKEN_LIFE + sessions.LATE_REPORTS
    wait_for(lambda: fleet.read(ConsoleSession, session_id).state == "Ended")


def test_a_disabled_user_loses_the_console(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    with fleet.database.transaction() as session:
        session.get_one(User, fleet.user_id).state = "disabled"
    wait_for(lambda: sessions_of(served(fleet)) == [])
    assert fleet.read(ConsoleSession, session_id).reason == "the user was disabled"


def test_a_second_proxy_starts_before_the_first_is_full_and_sessions_go_where_there_is_room(
    fleet: Fleet, flow: Flow, consoles: Consoles
) -> None:
    setting(fleet, "consoleproxy.session.max", "2")
    setting(fleet, "consoleproxy.capacity.standby", "1")
    vm_id = running_vm(fleet, flow)
    for number in range(2):
        consoles.open(asked(fleet, vm_id, f"token-{number}"), f"token-{number}")
    wait_for(lambda: [proxy.state for proxy in proxies(fleet)] == ["Running", "Running"])
    third = asked(fleet, vm_id, "token-3")
    consoles.open(third, "token-3")
    first, second = (fleet.agents[proxy.id] for proxy in proxies(fleet))
    assert (len(sessions_of(first)), sessions_of(second)) == (2, [third])


def test_many_at_once_share_one_new_proxy(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    waiting = [(asked(fleet, vm_id, f"token-{number}"), f"token-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        hosts = {shown(endpoint).host for endpoint in pool.map(lambda pair: consoles.open(*pair), waiting)}
    assert len(hosts) == 1 and len(sessions_of(served(fleet))) == 8


def test_an_idle_proxy_goes_and_gives_its_address_back(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    [proxy] = proxies(fleet)
    setting(fleet, "consoleproxy.idle.wait", "0")
    with fleet.database.transaction() as session:
        sessions.end(session.get_one(ConsoleSession, session_id), "for the test")
        session.get_one(ConsoleSession, session_id).expires -= sessions.TOKEN_LIFE
    wait_for(lambda: proxies(fleet) == [], 30.0)
    assert proxy.id not in fleet.hypervisor.running
    with fleet.database.reading() as session:
        assert session.scalars(select(PublicIp).where(PublicIp.appliance_id.is_not(None))).all() == []


def test_a_proxy_that_does_not_answer_is_restarted_and_its_sessions_stay(
    fleet: Fleet, flow: Flow, consoles: Consoles
) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    [proxy] = proxies(fleet)
    agent = served(fleet)
    setting(fleet, "consoleproxy.restart.wait", "1")
    stopped: list[str] = []
    fleet.hypervisor.on_stop = stopped.append
    agent.reachable = False
    wait_for(lambda: stopped == [proxy.id], 30.0)
    agent.reachable = True
    wait_for(lambda: [(one.id, one.state) for one in proxies(fleet)] == [(proxy.id, "Running")], 30.0)
    assert sessions_of(agent) == [session_id]
    assert "is restarted: it has not answered for" in fleet.events("PROXY.HA")[0]


def test_one_that_cannot_be_restarted_is_replaced(
    fleet: Fleet, flow: Flow, keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appliances, "PATIENCE", 5.0)
    setting(fleet, "consoleproxy.minimum", "1")
    keeper.kick()
    [first] = wait_for(lambda: [one for one in proxies(fleet) if one.state == "Running"], 30.0)
    setting(fleet, "consoleproxy.restart.wait", "1")
    fleet.agents[first.id].reachable = False
    wait_for(lambda: [one.id for one in proxies(fleet)] != [first.id] and proxies(fleet), 60.0)
    second = wait_for(lambda: [one for one in proxies(fleet) if one.state == "Running" and one.id != first.id], 60.0)
    assert len(second) == 1


def test_a_destroyed_proxy_is_built_again(fleet: Fleet, flow: Flow, keeper: Keeper, consoles: Consoles) -> None:
    session_id = asked(fleet, running_vm(fleet, flow))
    consoles.open(session_id, "secret-token")
    [first] = proxies(fleet)
    systemvms.destroy_system_vm(flow, first.id)
    [second] = wait_for(lambda: [one for one in proxies(fleet) if one.state == "Running"], 30.0)
    assert second.id != first.id and first.id not in fleet.hypervisor.running
    row = fleet.read(ConsoleSession, session_id)
    assert (row.state, row.reason) == ("Ended", "its console proxy is gone")


def test_a_screen_at_an_impossible_address_does_not_block_the_proxy(
    fleet: Fleet, flow: Flow, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = running_vm(fleet, flow)
    consoles.open(asked(fleet, vm_id), "secret-token")
    monkeypatch.setattr(fleet.hypervisor, "console", lambda instance: ConsoleTarget("host.example", 5900))
    with pytest.raises(ApiError, match="the screen's address cannot be used: host"):
        consoles.open(asked(fleet, vm_id, "token-2"), "token-2")
    monkeypatch.undo()
    third = asked(fleet, vm_id, "token-3")
    consoles.open(third, "token-3")
    assert third in sessions_of(served(fleet))


def recorded_session(fleet: Fleet, vm_id: str, consoles: Consoles) -> tuple[str, FakeAgent]:
    """A session that is being recorded, and the agent of its proxy, which has five octets of it."""
    recorded = asked(fleet, vm_id)
    consoles.open(recorded, "secret-token")
    with fleet.database.transaction() as session:
        row = session.get_one(ConsoleSession, recorded)
        row.state, row.acquired, row.policy = "Open", row.created, {"record": True}
    agent = served(fleet)
    agent.files[f"{recorded}.1700000000"] = b"12345"
    report(agent, f"{recorded}.1700000000", 5, finished=False)
    return recorded, agent


def report(agent: FakeAgent, name: str, size: int, *, finished: bool) -> None:
    about = {"recording": name, "size": size, "finished": finished}
    agent.reports = {"console": {"records": [], "recordings": [about]}}


def test_a_finished_recording_is_fetched_and_let_go_of(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    recorded, agent = recorded_session(fleet, vm_id, consoles)
    name = f"{recorded}.1700000000"
    agent.files[name] = b"123456789"
    report(agent, name, 9, finished=True)
    wait_for(lambda: name not in agent.files, 30, "the proxy to let go of it")
    assert b"".join(piece for _, piece in fleet.core.recordings.pieces(name)) == b"123456789"
    path = fleet.core.recordings._path(name)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_proxy_that_is_destroyed_leaves_its_recordings(
    fleet: Fleet, flow: Flow, consoles: Consoles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.convergence.collect.AgentClient", lambda agent, *_: fleet.agents[agent.id])
    vm_id = running_vm(fleet, flow)
    recorded, agent = recorded_session(fleet, vm_id, consoles)
    [proxy] = proxies(fleet)
    systemvms.remove(flow, proxy.id)
    # as far as it was
    assert fleet.core.recordings.size(f"{recorded}.1700000000") == 5
    assert agent.files, "it is not told to let go of what it still writes"


def test_recordings_are_kept_for_their_time(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    recorded, _ = recorded_session(fleet, vm_id, consoles)
    moment = int(time.time())
    for age in (50, 150):
        fleet.core.recordings.take(f"{recorded}.{moment - age}", 1, lambda _: b"x")
    setting(fleet, "consoleproxy.recording.age", "100")
    recordings.expire(fleet.core)
    assert [one.began for one in fleet.core.recordings.of_session(recorded)] == [moment - 50]


def test_a_recording_is_played_back_at_any_proxy(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    recorded, agent = recorded_session(fleet, vm_id, consoles)
    name = f"{recorded}.1700000000"
    # it has not been fetched yet
    report(agent, name, 5, finished=True)
    vms.stop_vm(flow, vm_id, True)
    with fleet.database.transaction() as session:
        row = sessions.create(
            session,
            vm=session.get_one(Vm, vm_id),
            user=session.get_one(User, fleet.user_id),
            token_hash=token_hash("token-2"),
            policy={},
            login=None,
            creator_address="192.0.2.7",
            playback=True,
        )
    consoles.open(row.id, "token-2", recorded, 1)
    [served_now] = served(fleet).pushed[-1]["state"]["console"]["sessions"]
    assert served_now["target"] == {"kind": "recording", "recording": name}
    assert agent.brought == {name: b"12345"}
    with pytest.raises(NoConsoleError, match="has no recording 2"):
        consoles.open(row.id, "token-2", recorded, 2)


def test_names_and_certificate_follow_the_domain(fleet: Fleet, flow: Flow, consoles: Consoles) -> None:
    vm_id = running_vm(fleet, flow)
    consoles.open(asked(fleet, vm_id), "secret-token")
    agent = served(fleet)
    before = agent.pushed[-1]["state"]["console"]["certificate"]["certificate"]
    setting(fleet, "consoleproxy.url.domain", "*.console.example.com")
    wait_for(lambda: agent.pushed[-1]["state"]["console"]["certificate"]["certificate"] != before)
    state = agent.pushed[-1]["state"]
    assert state["console"]["domain"] == "console.example.com"
    # and its name server answers for the zone's public addresses
    assert state["dns"]["domain"] == "console.example.com"
    assert state["dns"]["ranges"] == [{"first": "198.51.100.10", "last": "198.51.100.19"}]
    assert state["dns"]["nameservers"] == [_address(fleet)]
    endpoint = shown(consoles.open(asked(fleet, vm_id, "token-2"), "token-2"))
    assert endpoint.host == f"{_address(fleet).replace('.', '-')}.console.example.com"


def _address(fleet: Fleet) -> str:
    with fleet.database.reading() as session:
        return session.scalars(select(PublicIp.address).where(PublicIp.appliance_id.is_not(None))).one()
