"""Jobs: begun, ended, cancelled, and gone on with by the next process."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from ssvm.errors import JobFailedError
from ssvm.jobs import runner
from ssvm.jobs.context import Cancel, Progress
from ssvm.jobs.ledger import Entry, Ledger
from ssvm.jobs.runner import Runner
from ssvm.services.storage.model.jobs import Job
from ssvm.services.storage.model.report import JobReport, Result
from ssvm.stores.base import StoreError
from ssvm.stores.directory import Directory
from tests.unit.ssvm.states import job
from tests.wait import wait_for

JOBS: TypeAdapter[tuple[Job, ...]] = TypeAdapter(tuple[Job, ...])
DONE = Result(checksum="sha256:1", object_checksum="sha256:1", physical_size=3, format="qcow2", virtual_size=1 << 20)


class Bench:
    """A runner whose jobs do what ``work`` says, by id."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.store = Directory(directory / "store")
        self.store.staging.mkdir(parents=True)
        self.work: dict[str, Callable[[Any], Result | None]] = {}
        self.ran: list[str] = []
        #: whether files of uploads came, to a process before
        self.arrived = False
        self.runner = Runner(Ledger(directory / "jobs"))
        monkeypatch.setattr(runner, "run", self.run)
        monkeypatch.setattr(runner, "STORE_PAUSE", 0.0)

    def run(self, job: Job, tools: Any) -> Result | None:
        self.ran.append(job.id)
        (self.store.staging / f"{job.id}.data").touch()
        return self.work.get(job.id, lambda tools: DONE)(tools)

    def load(self, *jobs: dict[str, Any], threads: int = 10) -> None:
        def tools(progress: Progress, cancel: Cancel, putting: Callable[[Result], None]) -> Any:
            return cancel

        wanted: Sequence[Job] = JOBS.validate_python(jobs)
        self.runner.load(wanted, {"primary": self.store}, tools, threads, lambda job, store: self.arrived)

    def report(self, id: str = "job-1") -> JobReport:
        return next(report for report in self.runner.report() if report.id == id)

    def ended(self, id: str = "job-1") -> JobReport:
        return wait_for(
            lambda: self.report(id) if self.report(id).state in ("done", "failed") else None
        ) or self.report(id)

    def parts(self) -> list[str]:
        return sorted(path.name for path in self.store.staging.iterdir())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_job_is_done_once(bench: Bench) -> None:
    bench.load(job())
    assert bench.ended().result == DONE
    bench.load(job())
    bench.runner = Runner(Ledger(bench.directory / "jobs"))  # the next process
    bench.load(job())
    assert bench.report().state == "done"
    assert bench.ran == ["job-1"]


def test_a_failed_job_is_done_again_by_another_attempt(bench: Bench) -> None:
    def fail(_: Any) -> Result:
        raise JobFailedError("checksum", "it is another")

    bench.work["job-1"] = fail
    bench.load(job())
    report = bench.ended()
    assert report.failure is not None
    assert (report.failure.cause, bench.parts()) == ("checksum", [])
    del bench.work["job-1"]
    bench.load(job(attempt=2))
    assert bench.ended().state == "done"


def test_a_store_that_fails_for_a_moment(bench: Bench) -> None:
    def fail(_: Any) -> Result:
        if len(bench.ran) < most:
            raise StoreError("not now")
        return DONE

    most = runner.STORE_TRIES
    bench.work["job-1"] = bench.work["job-2"] = fail
    bench.load(job())
    assert bench.ended().state == "done"
    most *= 3
    bench.load(job(id="job-2"))
    report = bench.ended("job-2")
    assert report.failure is not None
    assert report.failure.cause == "store"


def test_what_a_server_may_not_have_got_comes_anew(bench: Bench) -> None:
    """An error of the file system says of no byte whether it is there."""
    had: list[list[str]] = []

    def fail(_: Any) -> Result:
        had.append(bench.parts())
        (bench.store.staging / "job-1.json").touch()
        if len(had) < 3:
            raise OSError(errno.EIO, "Input/output error")
        return DONE

    bench.work["job-1"] = fail
    bench.load(job())
    assert bench.ended().state == "done"
    assert had == [["job-1.data"]] * 3


def test_an_upload_is_kept_when_its_server_fails(bench: Bench) -> None:
    """Nobody would send it again."""
    path = bench.store.staging / "job-1.data"
    path.write_bytes(b"abc")
    had: list[bytes] = []

    def fail(_: Any) -> Result:
        had.append(path.read_bytes())
        if len(had) < 3:
            raise OSError(errno.EIO, "Input/output error")
        return DONE

    bench.work["job-1"] = fail
    bench.arrived = True
    bench.load(job("upload"))
    assert bench.ended().state == "done"
    assert had == [b"abc"] * 3


def test_a_store_that_is_asked_for_an_upload_holds_no_report_up(bench: Bench) -> None:
    asked, answer = threading.Event(), threading.Event()

    def arrived(_: Job, __: Any) -> bool:
        asked.set()
        return answer.wait(10)

    bench.load(job())
    wanted: Sequence[Job] = JOBS.validate_python([job(), job("upload", id="job-2")])
    stores = {"primary": bench.store}
    loading = threading.Thread(target=bench.runner.load, args=(wanted, stores, lambda *_: None, 1, arrived))
    loading.start()
    assert asked.wait(5)
    told: list[str] = []
    telling = threading.Thread(target=lambda: told.extend(one.id for one in bench.runner.report()), daemon=True)
    telling.start()
    telling.join(2)
    answer.set()
    loading.join()
    assert told == ["job-1"]
    assert bench.ended("job-2").state == "done"


def test_threads_are_limited_and_order_is_kept(bench: Bench) -> None:
    gate = threading.Event()
    for number in range(4):
        bench.work[f"job-{number}"] = lambda _: DONE if gate.wait(10) else None
    bench.load(*(job(id=f"job-{number}", path=f"p{number}") for number in range(4)), threads=2)
    wait_for(lambda: len(bench.ran) == 2)
    assert [bench.report(f"job-{number}").state for number in range(4)] == ["running"] * 2 + ["waiting"] * 2
    gate.set()
    assert bench.ended("job-3").state == "done"
    assert sorted(bench.ran) == ["job-0", "job-1", "job-2", "job-3"]


def test_a_job_that_leaves_is_cancelled_and_cleaned_up_after(bench: Bench) -> None:
    def wait(cancel: Cancel) -> Result:
        cancel.wait(10)
        return DONE

    bench.work["job-1"] = wait
    bench.load(job())
    wait_for(lambda: bench.parts() == ["job-1.data"])
    bench.load()
    wait_for(lambda: bench.parts() == [])
    assert bench.runner.report() == []


@pytest.mark.parametrize(("there", "again"), [(b"new", False), (b"none", True), (None, True)])
def test_killed_while_an_object_was_put(bench: Bench, there: bytes | None, again: bool) -> None:
    Ledger(bench.directory / "jobs").write("job-1", Entry(attempt=1, ended=False, result=DONE))
    if there is not None:
        path = bench.directory / "store/template/a.qcow2"
        path.parent.mkdir()
        path.write_bytes(there)
    bench.load(job())
    assert bench.ended().result == DONE
    assert bench.ran == (["job-1"] if again else [])


@pytest.mark.parametrize("when", ["removed", "failed", "restarted"])
def test_a_store_that_does_not_answer_holds_nothing_else_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """As an NFS server that was switched off: calls to it wait, and reports and other jobs do not."""
    silent, asked = threading.Event(), threading.Event()

    def wait(*_: object) -> int:
        asked.set()
        assert silent.wait(20)
        return DONE.physical_size

    def fails(_: object) -> Result:
        raise JobFailedError("store", "it is gone")

    monkeypatch.setattr(runner, "remove", lambda directory, id: wait() if id == "job-1" else None)
    monkeypatch.setattr(bench.store, "size", wait)
    try:
        if when == "removed":
            bench.load(job(), threads=0)
            bench.load()
        elif when == "failed":
            bench.work["job-1"] = fails
            bench.load(job())
        else:
            Ledger(bench.directory / "jobs").write("job-1", Entry(attempt=1, ended=False, result=DONE))
            bench.load(job())
        wait_for(asked.is_set, 5, "the store to be asked")
        began = time.monotonic()
        bench.load(*([] if when == "removed" else [job()]), job(id="job-2", path="b"))
        assert bench.ended("job-2").state == "done"
        assert bench.runner.ids() >= {"job-2"}
        assert time.monotonic() - began < 5
    finally:
        silent.set()
    if when != "removed":
        assert bench.ended().state == ("failed" if when == "failed" else "done")
