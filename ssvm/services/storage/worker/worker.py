"""The worker's life: its configuration, signals, time, and the socket on which the agent asks."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.inquiry import answer
from ssvm.fetch.pace import Pace
from ssvm.formats.images import Images
from ssvm.jobs.context import Cancel, Progress
from ssvm.jobs.ledger import Ledger
from ssvm.jobs.runner import Runner
from ssvm.jobs.tools import Tools
from ssvm.links.server import Servers
from ssvm.links.uploads import arrived
from ssvm.services.storage.model.report import Report, Result
from ssvm.services.storage.worker.config import Config, ConfigError, load
from ssvm.stores.holdings import Holdings

log = logging.getLogger(__name__)


class Worker:
    """The worker that is configured in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._error = ""
        self._digest = ""
        self._pace = Pace()
        #: a configuration is taken whole before a newer one is read
        self._taking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Work until SIGTERM; the exit status. Jobs are left as they are: what is on the disk is enough to go on."""
        os.umask(0o022)
        try:
            config = load(self._path)
        except ConfigError as error:
            log.error("%s", error)
            return 1
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._reloading(loop))
        self._holdings = Holdings(config.state / "parts", config.nfs)
        self._runner = Runner(Ledger(config.state / "jobs"))
        self._servers = Servers(self._runner, self._holdings)
        async with self._taking:
            await self._take(config)
        self._agent = await answer(config.socket, self._status)
        ticking = loop.create_task(self._tick())
        await stopped.wait()
        ticking.cancel()
        await self._servers.close()
        # threads may be in the middle of anything, and are to be cut off there
        os._exit(0)

    def _reloading(self, loop: asyncio.AbstractEventLoop) -> None:
        # the loop itself holds tasks weakly
        self._tasks.add(task := loop.create_task(self._reload()))
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        async with self._taking:
            try:
                config = load(self._path)
            except ConfigError as error:
                log.error("%s", error)
                self._error = str(error)
                return
            await self._take(config)

    async def _take(self, config: Config) -> None:
        self._error = ""
        storage = config.storage
        self._pace.rate = storage.bandwidth
        await asyncio.to_thread(self._holdings.load, storage.stores)
        images = Images(config.sandbox)

        def tools(progress: Progress, cancel: Cancel, putting: Callable[[Result], None]) -> Tools:
            return Tools(
                stores=self._holdings.stores,
                way=config.way,
                peer_way=config.peer_way if config.peer_client is not None else None,
                pace=self._pace,
                images=images,
                retries=storage.retries,
                progress=progress,
                cancel=cancel,
                putting=putting,
            )

        await asyncio.to_thread(self._runner.load, storage.jobs, self._holdings.stores, tools, storage.threads, arrived)
        self._error = await self._servers.load(config)
        self._digest = config.digest

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1)
            try:
                self._servers.tick()
                await asyncio.to_thread(self._holdings.tick, self._runner.ids())
            except Exception:
                log.exception("every second")

    async def _status(self) -> dict[str, Any]:
        """What is in force and how it goes."""
        report = Report(
            jobs=tuple(self._runner.report()),
            links=tuple(self._servers.report()),
            stores=tuple(self._holdings.report()),
            running=self._runner.running,
            threads=self._runner.threads,
        )
        return {"digest": self._digest, "error": self._error, "report": report.model_dump(mode="json")}
