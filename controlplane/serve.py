"""``gatehouse serve``: the control plane with its API over HTTP or HTTPS."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import uvicorn
from fastapi import FastAPI

from appliance.errors import GatehouseError
from controlplane.api.server import create_app
from controlplane.hypervisors.registry import HypervisorOptions
from controlplane.installation import Installation, local_endpoint, write_installation
from controlplane.runtime import Runtime

log = logging.getLogger(__name__)

#: seconds that requests under way are given at the end; on a busy machine calls that change something queue up
GRACE = 20


@dataclass(frozen=True)
class ServeOptions:
    """What ``gatehouse serve`` was asked for. ``certificate`` and ``key`` are PEM files, both or neither."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    hypervisor: str = "namespace"
    hypervisor_options: HypervisorOptions = field(default_factory=HypervisorOptions)
    #: port on loopback where everybody is the administrator; None: none
    integration_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    log_level: str = "INFO"


def serve(options: ServeOptions) -> None:
    """Run until SIGTERM or SIGINT. Appliances and guests go on working afterwards."""
    if (options.certificate is None) != (options.key is None):
        raise GatehouseError("HTTPS needs both --tls-certificate and --tls-key")
    _log_to_stderr(options.log_level)
    _tune_gc()
    runtime = Runtime(options.data, hypervisor=options.hypervisor, hypervisor_options=options.hypervisor_options)
    runtime.open()
    try:
        endpoint = local_endpoint(options.host, options.port, tls=options.certificate is not None)
        write_installation(options.data, Installation.of(endpoint, options.hypervisor, options.hypervisor_options))
        integration = _integration(runtime, options)
        server = _server(create_app(runtime), options.host, options.port, options.certificate, options.key)
        scheme = "https" if options.certificate else "http"
        log.info("serving %s://%s:%d/client/api for %s", scheme, options.host, options.port, runtime.data)
        try:
            # uvicorn raises the signal that ended it once more; what follows here must still happen
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: None)
            server.run()
        finally:
            if integration is not None:
                integration.should_exit = True
    finally:
        runtime.close()
    log.info("stopped; appliances and guests go on running")


def _server(
    app: FastAPI, host: str, port: int, certificate: Path | None = None, key: Path | None = None
) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def _integration(runtime: Runtime, options: ServeOptions) -> uvicorn.Server | None:
    if options.integration_port is None:
        return None
    log.warning("port %d on 127.0.0.1 takes every caller for the administrator", options.integration_port)
    app = create_app(runtime, integration=True)
    server = _server(app, "127.0.0.1", options.integration_port)
    # a server outside the main thread leaves signals alone
    Thread(target=server.run, name="integration", daemon=True).start()
    return server


class LineFormatter(logging.Formatter):
    """One line a message: names that tenants choose may have line ends, which must not begin a line of the log."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the standard library
        return super().formatMessage(record).replace("\r", "\\r").replace("\n", "\\n")


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper())
    for noisy in ("dbos", "uvicorn.error", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _tune_gc() -> None:
    # Loading a router of 20,000 rules makes 60,000 tuples: with the default threshold of 700 the collector ran 80 times
    # meanwhile and the load took three times as long
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
