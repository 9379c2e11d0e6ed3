"""The engine: brings the machine to a whole document, or leaves it as it was.

``apply`` is the transaction, ``restore`` what happens at start, ``watch`` the look for drift and its repair. All three
change the machine through ``_change`` alone. One thread calls them; any thread may read the public attributes.

How a kill at any instant is survived: ``machine.json`` says ``settled: false`` from before the first change until
after the new document is the last-good one. A start that finds it so forces the machine to the last-good document,
whichever of the two that is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from appliance.engine import files
from appliance.engine.parse import Parsed, Parser
from appliance.engine.repairs import Repairs
from appliance.engine.service import BaseService, Change, File, Host, Rendered, Service, Unit
from appliance.engine.steps import StepFailedError, Steps, describe
from appliance.engine.store import DamagedError, Machine, Store
from appliance.engine.undo import Undo
from appliance.errors import DocumentError, ProbeError
from appliance.garbage import uncollected
from appliance.netfilter.ruleset import Ruleset, merge
from appliance.schema.status import Attempt, Problem, Stage

log = logging.getLogger(__name__)

#: how long a service may take to pass its probe after a change, and the pause between two tries, in seconds
PROBE_DEADLINE = 8.0
PROBE_PAUSE = 0.02
#: longest pause before the same thing is repaired again, in seconds
LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Applied:
    """A state the machine was brought to: what a change starts from and what drift is measured against."""

    generation: int = 0
    digest: str = ""
    #: the role's state; None on an appliance that has no document yet
    state: Any | None = None
    #: by service
    rendered: Mapping[str, Rendered] = field(default_factory=dict)
    ruleset: Ruleset = field(default_factory=Ruleset)

    def of(self, service: Service) -> Rendered:
        return self.rendered.get(service.name, Rendered())

    @cached_property
    def files(self) -> dict[Path, File]:
        return {path: file for part in self.rendered.values() for path, file in part.files.items()}

    @cached_property
    def owners(self) -> dict[str, str]:
        """Unit name -> service name."""
        return {unit.name: name for name, part in self.rendered.items() for unit in part.units}


class Engine:
    """The engine of one appliance.

    ``base`` is the ruleset of an appliance without a document, which lets nothing pass; services add to it.
    """

    def __init__(self, host: Host, services: Sequence[Service], parser: Parser, base: Ruleset) -> None:
        self.host, self.services, self.parser = host, tuple(services), parser
        self.store = Store(host.settings)
        self._disk = ThreadPoolExecutor(1, "disk")
        self.repairs = Repairs(self.store)
        self.base = base
        self.applied = Applied(ruleset=base)
        #: outcome of the newest document since start
        self.attempt: Attempt | None = None
        #: why the machine may not match ``applied``; empty when it does
        self.trouble: tuple[Problem, ...] = (Problem(stage="files", message="the last-good state is being restored"),)
        #: seconds by stage of the newest transaction
        self.seconds: dict[Stage, float] = {}
        #: counts up when the machine begins to change: a probe that spans a change means nothing
        self.changes = 0
        #: False while the machine may look like anything, so that the next change must be a forced one
        self._settled = False
        #: the last-good document is unreadable: all that can be done is to wait for a new one
        self._damaged = False
        #: the kernel's ruleset generation after our last change of it
        self._netfilter = -1
        #: the ruleset was loaded or compared by this agent; one of another version may render a document otherwise
        self._known = False
        self._signatures: dict[Path, files.Signature] = {}
        #: by what was repaired of late: (time from which it may be again, pause in seconds)
        self._pauses: dict[str, tuple[float, float]] = {}

    # ---- the transaction

    def apply(self, document: Parsed) -> Attempt:
        """Bring the machine to ``document`` or leave it as it is."""
        begin = time.monotonic()
        steps = Steps()
        steps.seconds["parse"] = document.seconds
        with uncollected():
            outcome = self._transact(document, steps)
        self.seconds = steps.seconds
        self.attempt = Attempt(
            generation=document.generation,
            digest=document.digest,
            outcome=outcome,
            problems=tuple(steps.problems),
            finished=time.time(),
            seconds=document.seconds + time.monotonic() - begin,
        )
        return self.attempt

    def _transact(self, document: Parsed, steps: Steps) -> Literal["applied", "refused", "rolled-back"]:
        before, force = self.applied, not self._settled
        if document.digest == before.digest and not force:
            return "applied"
        # on its way to the disk while the services render; a full one is found before anything has changed
        preparing = self._disk.submit(self.store.prepare, document.digest, document.body)
        try:
            after, changed = self._render(document, before, steps)
            self._check(after, changed, steps)
            with steps.step("commit"):
                preparing.result()
        except StepFailedError:
            wait([preparing])
            self.store.abandon()
            return "refused"
        undo = Undo()
        try:
            if changed or force:
                self._change(before, after, self.services if force else changed, steps, undo, force=force)
                for service in changed:
                    with steps.step("probe", service.name):
                        self._probe(service, after)
            with steps.step("commit"):
                self.store.commit()
        except Exception as error:
            if not isinstance(error, StepFailedError):
                steps.problems.append(Problem(stage="commit", message=describe(error)))
            self.store.abandon()
            self._roll_back(undo, steps)
            return "rolled-back"
        self._settle(after)
        return "applied"

    def _render(self, document: Parsed, before: Applied, steps: Steps) -> tuple[Applied, list[Service]]:
        """The state to come, and the services that the document changes something for."""
        rendered: dict[str, Rendered] = {}
        changed: list[Service] = []
        for service in self.services:
            if before.state is not None and _inputs(service, before.state) == _inputs(service, document.state):
                rendered[service.name] = before.rendered[service.name]
                continue
            changed.append(service)
            with steps.step("render", service.name):
                rendered[service.name] = service.render(document.state, self.host.settings)
        with steps.step("render"):
            parts = (self.base, *(part.ruleset for part in rendered.values()))
            ruleset = merge(parts) if changed else before.ruleset
            after = Applied(document.generation, document.digest, document.state, rendered, ruleset)
            if len(after.files) != sum(len(part.files) for part in rendered.values()):
                raise ValueError("two services render the same file")
            if len(after.owners) != sum(len(part.units) for part in rendered.values()):
                raise ValueError("two services render a unit of the same name")
        return after, changed

    def _check(self, after: Applied, changed: Collection[Service], steps: Steps) -> None:
        """Have the daemons look at what is to come, on a staging tree."""
        staging = self.host.settings.run_dir / "staging"
        for service in changed:
            if getattr(type(service), "check", None) is BaseService.check:
                continue  # nothing would look at its files, of which there may be thousands
            with steps.step("check", service.name):
                rendered = after.of(service)
                files.clear(staging)
                service.check(rendered, files.stage(staging, rendered.files), self.host)
        with steps.step("check"):
            files.clear(staging)

    def _probe(self, service: Service, after: Applied) -> None:
        """Wait until the service passes its probe. Raises ProbeError at the deadline, or when a unit of it ended."""
        deadline = time.monotonic() + PROBE_DEADLINE
        while True:
            try:
                for unit in after.of(service).units:
                    if self.host.supervisor.pid(unit.name) is None:
                        deadline = 0.0
                        raise ProbeError(f"{unit.name} ended: {self.host.supervisor.log_tail(unit.name)}")
                return service.probe(after.state, self.host)
            except ProbeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PROBE_PAUSE)

    def _roll_back(self, undo: Undo, steps: Steps) -> None:
        """Take back what ``_change`` did; when that fails, force the old state."""
        failures = undo.run()
        for what, error in failures:
            log.error("rolling back: %s: %s", what, describe(error))
        if failures:
            self._settled = False
            steps.problems += self._force()
        elif self._settled:
            self._settle(self.applied)

    # ---- start, drift, repair

    def guard(self) -> None:
        """On the first start since boot: let nothing pass before the rules for it are there. Raises ApplyError."""
        if self.store.machine().netfilter < 0:
            self._load(None, self.base)

    def restore(self) -> None:
        """At start: adopt what runs when it is the last-good state, else bring that about. Troubles are noted."""
        machine = self.store.machine()
        steps = Steps()
        try:
            saved = self.store.load()
            if saved is not None:
                self.applied, _ = self._render(self.parser.parse(saved[1]), Applied(), steps)
        except (DamagedError, DocumentError, StepFailedError) as error:
            failed = steps.problems if isinstance(error, StepFailedError) else ()
            message = "; ".join(f"{problem.service}: {problem.message}" for problem in failed) or str(error)
            log.error("%s", message)
            self._damaged = True
            self.trouble = (Problem(stage="parse", message=message),)
        if machine.settled and machine.digest == self.applied.digest:
            self._netfilter, self._settled, self.trouble = machine.netfilter, True, ()
            for name, part in self.applied.rendered.items():
                if ended := self._start(part.units):
                    self.repairs.add(name, f"{', '.join(sorted(ended))} ended while no agent ran")
            return
        if not self._damaged:
            self._force()

    def watch(self) -> None:
        """Look for drift and repair it; cheap when there is none."""
        if self._damaged:
            return
        if not self._settled:
            self._repair("engine", "the machine does not match the document", self.services, ruleset=True)
            return
        if reason := self._netfilter_drift():
            self._repair("netfilter", reason, (), ruleset=True)
        for service in self.services if self.applied.state is not None else ():
            if reasons := [reason for reason in self._drift(service) if reason]:
                self._repair(service.name, "; ".join(reasons), (service,), ruleset=False)

    def _netfilter_drift(self) -> str | None:
        try:
            now = self.host.netfilter.generation()
            if now == self._netfilter and self._known:
                return None
            if self.host.netfilter.matches(self.applied.ruleset):
                # someone changed a table of their own
                self._netfilter, self._known = now, True
                self._record()
                return None
        except Exception as error:
            return f"the ruleset cannot be read: {describe(error)}"
        if now == self._netfilter:
            return "the ruleset is not what this version of the agent makes of the document"
        return "the ruleset was changed by someone else"

    def _drift(self, service: Service) -> list[str | None]:
        found = []
        for path, file in self.applied.of(service).files.items():
            now = files.signature(path)
            if now != self._signatures.get(path):
                found.append(files.difference(path, file))
                if found[-1] is None:
                    self._signatures[path] = now
        try:
            found.append(service.drift(self.applied.state, self.host))
        except Exception as error:
            found.append(f"looking for drift failed: {describe(error)}")
        return found

    def _repair(self, key: str, reason: str, services: Collection[Service], *, ruleset: bool) -> None:
        now = time.monotonic()
        due, pause = self._pauses.get(key, (0.0, 0.0))
        if now < due:
            return
        # what comes back right after its repair is repaired at growing distances
        pause = min(LONGEST_PAUSE, max(1.0, 2 * pause)) if now < due + LONGEST_PAUSE else 1.0
        self._pauses[key] = (now + pause, pause)
        problems = self._force(services, ruleset=ruleset) if self._settled else self._force()
        self.repairs.add(key, reason, "; ".join(problem.message for problem in problems))

    def _force(self, services: Collection[Service] | None = None, *, ruleset: bool = True) -> tuple[Problem, ...]:
        """Bring ``applied`` about whatever the machine looks like, going on after failures; returns these."""
        steps = Steps(keep_going=True)
        wanted = self.services if services is None else services
        self._change(self.applied, self.applied, wanted, steps, Undo(), force=True, ruleset=ruleset)
        if steps.problems:
            self._settled, self.trouble = False, tuple(steps.problems)
        else:
            self._settle(self.applied)
        return tuple(steps.problems)

    # ---- the one place where the machine is changed

    def _change(
        self,
        before: Applied,
        after: Applied,
        services: Collection[Service],
        steps: Steps,
        undo: Undo,
        *,
        force: bool = False,
        ruleset: bool = True,
    ) -> None:
        """Goodbyes, ruleset, files, then units and reload of each of ``services``, from ``before`` to ``after``.

        ``force`` trusts nothing about how the machine looks. When it may look like anything, files and units that
        nobody asks for go too. ``ruleset`` False leaves netfilter out, for the repair of something else.
        """
        self.changes += 1
        supervisor = self.host.supervisor
        strays: set[Path] = set()
        with steps.step("files"):
            if not self._settled:
                strays = set(self.store.machine().files) | files.below(self.host.settings.config_dir)
                strays -= after.files.keys()
            known = strays | before.files.keys() | after.files.keys()
            self.store.record(Machine(settled=False, netfilter=self._netfilter, files=frozenset(known)))
        changes = {
            service.name: Change(before.state, after.state, self._touched(before, after, service, force), force=force)
            for service in services
        }
        for service in () if force else services:
            try:
                service.part(changes[service.name], self.host)
            except Exception as error:
                log.warning("%s: before the change: %s", service.name, describe(error))
        # Pushed first and backwards, so that they run last and in ``after`` order: what is told to reload must find
        # its old files and ruleset again.
        reached: set[str] = set()
        for service in reversed(list(services)):
            undo.push(
                f"{service.name}: back to the old state",
                partial(self._take_back, service, changes[service.name], before, after, reached),
            )

        # first, because the kernel takes it as a whole or not at all: what it refuses has changed nothing yet
        if ruleset and (force or before.ruleset != after.ruleset):
            with steps.step("netfilter"):
                generation = self.host.netfilter.generation()
                undo.push("restore the ruleset", partial(self._unload, generation, after.ruleset, before.ruleset))
                self._load(None if force else self._loaded(), after.ruleset)

        for name, paths in (("", strays), *((name, change.files) for name, change in changes.items())):
            for path in sorted(paths):
                with steps.step("files", name):
                    files.swap(path, after.files.get(path), undo)
                    self._signatures[path] = files.signature(path)

        running = before.owners if self._settled else dict.fromkeys(supervisor.names(), "") | before.owners
        for unit in reversed([unit for unit in running if unit not in after.owners]):
            with steps.step("units", running[unit]):
                reached.add(running[unit])
                supervisor.stop(unit)
        for service in services:
            reached.add(service.name)
            started: frozenset[str] = frozenset()
            with steps.step("units", service.name):
                started = self._start(after.of(service).units)
            with steps.step("reload", service.name):
                service.apply(replace(changes[service.name], started=started), self.host)

    def _touched(self, before: Applied, after: Applied, service: Service, force: bool) -> frozenset[Path]:
        """The service's files that must be written or removed."""
        old, new = before.of(service).files, after.of(service).files
        touched = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        if force:
            touched |= {path for path, file in new.items() if files.difference(path, file) is not None}
        return frozenset(touched)

    def _start(self, units: Collection[Unit]) -> frozenset[str]:
        """Have ``units`` running as defined; returns the names of those that were not."""
        started = set()
        for unit in units:
            old = self.host.supervisor.pid(unit.name)
            self.host.supervisor.start(unit)
            if old is None or self.host.supervisor.pid(unit.name) != old:
                started.add(unit.name)
        return frozenset(started)

    def _take_back(
        self, service: Service, change: Change, before: Applied, after: Applied, reached: Collection[str]
    ) -> None:
        if service.name not in reached:
            return
        for unit in after.of(service).units:
            if unit.name not in before.owners:
                self.host.supervisor.stop(unit.name)
        started = self._start(before.of(service).units)
        service.apply(replace(change.reversed(), started=started), self.host)

    def _load(self, before: Ruleset | None, after: Ruleset) -> None:
        self.host.netfilter.apply(before, after)
        self._netfilter, self._known = self.host.netfilter.generation(), True

    def _unload(self, generation: int, after: Ruleset, before: Ruleset) -> None:
        """Load ``before`` again unless the kernel still is at ``generation``, that is, nothing was done."""
        now = self.host.netfilter.generation()
        if now != generation:
            self._load(after if now == self._netfilter else None, before)

    def _loaded(self) -> Ruleset | None:
        """The ruleset in the kernel; None when that is not sure and it must be replaced as a whole."""
        same = self._known and self.host.netfilter.generation() == self._netfilter
        return self.applied.ruleset if same else None

    def _settle(self, applied: Applied) -> None:
        """The machine matches ``applied``, which is the last-good state."""
        self.applied, self._settled, self._damaged, self.trouble = applied, True, False, ()
        self._record()

    def _record(self) -> None:
        applied = self.applied
        try:
            self.store.record(Machine(True, applied.digest, self._netfilter, frozenset(applied.files)))
        except OSError as error:
            # the record still says unsettled: the next start of the agent forces the same state once more
            log.error("%s", describe(error))

    def unit_restarted(self, unit: str, reason: str) -> None:
        """Called by the supervisor, from its thread, when it had to restart a unit."""
        if unit in self.applied.owners:
            self.repairs.add(self.applied.owners[unit], reason)


def _inputs(service: Service, state: Any) -> list[Any]:
    return [getattr(state, name) for name in service.inputs]
