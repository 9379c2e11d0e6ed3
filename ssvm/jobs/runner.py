"""Brings about the jobs of the newest document: starts, cancels, remembers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ssvm.errors import JobCancelledError, JobFailedError, full
from ssvm.fetch.part import remove
from ssvm.jobs.context import Cancel, Progress
from ssvm.jobs.kinds import run
from ssvm.jobs.ledger import Entry, Ledger
from ssvm.jobs.tools import Tools
from ssvm.services.storage.model.jobs import Job, Upload
from ssvm.services.storage.model.report import Failure, JobReport, Result, State
from ssvm.stores.base import Store, StoreError

log = logging.getLogger(__name__)

#: tries of a store that does not work, and seconds between the first two; each pause is twice the one before
STORE_TRIES, STORE_PAUSE = 5, 5.0

#: makes a job's tools
MakeTools = Callable[[Progress, Cancel, Callable[[Result], None]], Tools]


@dataclass
class Task:
    """One job of the document. ``thread`` while it is worked on; ``staging`` is where its parts are."""

    job: Job
    store: Store | None
    progress: Progress = field(default_factory=Progress)
    cancel: Cancel = field(default_factory=Cancel)
    entry: Entry | None = None
    thread: threading.Thread | None = None
    #: an upload whose file came; anything else can begin at once
    ready: bool = True

    @property
    def ended(self) -> bool:
        return self.entry is not None and self.entry.ended

    @property
    def state(self) -> State:
        if self.ended:
            return "failed" if self.entry is not None and self.entry.failure is not None else "done"
        if self.progress.retrying:
            return "retrying"
        return "running" if self.thread is not None or self.progress.phase else "waiting"


class Runner:
    """Runs jobs in threads, at most ``threads`` at once.

    Nothing asks a store while it holds the lock: one that does not answer would hold everything else up.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.RLock()
        self._tasks: dict[str, Task] = {}
        #: cancelled, and not at their end yet
        self._leaving: dict[str, Task] = {}
        #: whose parts are being removed: how often
        self._cleaning: Counter[str] = Counter()
        self._threads = 1
        self._make_tools: MakeTools | None = None

    def load(
        self,
        jobs: Sequence[Job],
        stores: Mapping[str, Store],
        make_tools: MakeTools,
        threads: int,
        arrived: Callable[[Upload, Store], bool],
    ) -> None:
        """Have exactly these jobs. ``arrived``: whether an upload's file is there, from a process before this one.

        By one thread at a time.
        """
        with self._lock:
            known = {id: task.job for id, task in self._tasks.items()}
        # this asks stores
        new = {job.id: self._task(job, stores.get(job.store), arrived) for job in jobs if known.get(job.id) != job}
        with self._lock:
            self._make_tools, self._threads = make_tools, threads
            wanted = {job.id: job for job in jobs}
            for id, task in list(self._tasks.items()):
                if wanted.get(id) != task.job:
                    self._leave(self._tasks.pop(id), again=id in wanted)
            tasks = {}
            for job in jobs:
                tasks[job.id] = self._tasks.get(job.id) or new[job.id]
            self._tasks = tasks
            self._ledger.forget(wanted)
            self._schedule()

    def _task(self, job: Job, store: Store | None, arrived: Callable[[Upload, Store], bool]) -> Task:
        task = Task(job, store, entry=self._ledger.read(job.id, job.attempt))
        if isinstance(job, Upload) and task.entry is None:
            task.ready = store is not None and arrived(job, store)
        return task

    def _finished(self, task: Task) -> Entry | None:
        """A process before this one was killed while it put the object: it is there whole, or not."""
        entry = task.entry
        if entry is None or entry.result is None or task.store is None:
            return None
        try:
            there = task.store.size(task.job.path) == entry.result.physical_size
        except StoreError:
            there = False
        if there:
            self._remove(task)
            return Entry(attempt=task.job.attempt, ended=True, result=entry.result)
        task.entry = None
        return None

    def _leave(self, task: Task, again: bool) -> None:
        """A job is not in the document any more; ``again``: another attempt or definition of it is."""
        task.cancel.cancel()
        if task.thread is not None:
            self._leaving[task.job.id] = task
        elif task.store is not None and not again:
            self._clean(task)

    def _clean(self, task: Task) -> None:
        """Remove the parts of a task that has no thread, in one; meanwhile no job of that name begins."""
        self._cleaning[task.job.id] += 1

        def work() -> None:
            self._remove(task)
            with self._lock:
                self._cleaning -= Counter((task.job.id,))
                self._schedule()

        threading.Thread(target=work, name=f"parts of {task.job.id}", daemon=True).start()

    @staticmethod
    def _remove(task: Task) -> None:
        if task.store is not None:
            try:
                remove(task.store.staging, task.job.id)
            except OSError as error:
                log.error("parts of %s: %s", task.job.id, error)

    def _schedule(self) -> None:
        running = len(self._leaving) + sum(task.thread is not None for task in self._tasks.values())
        for id, task in self._tasks.items():
            if running >= self._threads:
                return
            busy = id in self._leaving or id in self._cleaning
            if task.thread is None and not task.ended and task.ready and not busy:
                task.thread = threading.Thread(target=self._work, args=(task,), name=f"job {id}", daemon=True)
                task.thread.start()
                running += 1

    def _work(self, task: Task) -> None:
        assert self._make_tools is not None

        def putting(result: Result) -> None:
            self._ledger.write(task.job.id, Entry(attempt=task.job.attempt, ended=False, result=result))

        tools = self._make_tools(task.progress, task.cancel, putting)
        attempt = task.job.attempt
        try:
            entry = self._finished(task) or Entry(attempt=attempt, ended=True, result=self._tried(task, tools))
        except JobCancelledError:
            entry = None
        except JobFailedError as error:
            entry = Entry(attempt=attempt, ended=True, failure=Failure(cause=error.cause, message=error.message))
        except Exception:
            log.exception("job %s", task.job.id)
            failure = Failure(cause="internal", message="the appliance could not do it; its log says why")
            entry = Entry(attempt=attempt, ended=True, failure=failure)
        with self._lock:
            gone = task.cancel.wanted and task.job.id not in self._tasks
        if gone or (entry is not None and entry.failure is not None and not task.cancel.wanted):
            self._remove(task)
        with self._lock:
            task.thread = None
            task.progress.retrying = False
            if entry is not None and not task.cancel.wanted:
                if entry.failure is not None:
                    log.warning("job %s failed: %s", task.job.id, entry.failure.message)
                self._end(task, entry)
            elif task.cancel.wanted:
                self._leaving.pop(task.job.id, None)
                if not gone and task.job.id not in self._tasks:
                    self._clean(task)
            self._schedule()

    def _tried(self, task: Task, tools: Tools) -> Result | None:
        """Do the job, and again when its store fails for a moment."""
        doubtful = False
        for number in range(1, STORE_TRIES + 1):
            try:
                if doubtful and task.store is not None:
                    # a server may lack data of a part that has the right length
                    remove(task.store.staging, task.job.id)
                    doubtful = False
                return run(task.job, tools)
            except (StoreError, OSError) as error:
                failure, why = None, str(error)
                if isinstance(error, OSError):
                    # an upload was synced when it came, and does not come again
                    doubtful = not isinstance(task.job, Upload)
                    failure, why = full(error), f"the store cannot be used: {error.strerror or error}"
                if failure is not None or number == STORE_TRIES:
                    raise failure or JobFailedError("store", why) from error
                task.progress.detail, task.progress.retrying = why, True
                task.cancel.wait(STORE_PAUSE * 2 ** (number - 1))
                task.progress.retrying = False
        raise AssertionError

    def _end(self, task: Task, entry: Entry) -> None:
        task.entry = entry
        task.progress.phase = ""
        self._ledger.write(task.job.id, entry)

    def upload(self, id: str) -> Task | None:
        """The task of an upload that waits for its file."""
        with self._lock:
            task = self._tasks.get(id)
            waits = task is not None and isinstance(task.job, Upload) and not task.ready and not task.ended
            return task if waits else None

    def arrived(self, task: Task) -> None:
        """An upload's file is there whole."""
        with self._lock:
            task.ready = True
            self._schedule()

    def fail(self, task: Task, failure: Failure) -> None:
        """An upload will not come any more."""
        with self._lock:
            self._clean(task)
            self._end(task, Entry(attempt=task.job.attempt, ended=True, failure=failure))

    def waiting(self) -> list[Task]:
        """Uploads whose file did not come yet."""
        with self._lock:
            return [task for task in self._tasks.values() if not task.ready and not task.ended]

    def ids(self) -> set[str]:
        """Jobs that have or may have parts."""
        with self._lock:
            return {*self._tasks, *self._leaving}

    @property
    def threads(self) -> int:
        return self._threads

    @property
    def running(self) -> int:
        with self._lock:
            return sum(task.thread is not None for task in self._tasks.values())

    def report(self) -> list[JobReport]:
        """Every job of the document, in its order."""
        with self._lock:
            return [_report(task) for task in self._tasks.values()]


def _report(task: Task) -> JobReport:
    progress, entry = task.progress, task.entry
    done = entry.result if entry is not None and entry.ended else None
    return JobReport(
        id=task.job.id,
        attempt=task.job.attempt,
        state=task.state,
        phase=progress.phase,
        received=progress.received if done is None or progress.received else done.physical_size,
        total=progress.total,
        percent=100 if task.state == "done" else progress.percent,
        rate=0 if task.ended else progress.rate,
        seconds_left=None if task.ended else progress.seconds_left,
        lost=progress.lost,
        detail=progress.detail,
        failure=entry.failure if entry is not None else None,
        result=done,
    )
