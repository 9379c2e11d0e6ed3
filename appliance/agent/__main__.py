"""``python -m appliance.agent [SETTINGS.json]``: the agent of one appliance, in the foreground, as root.

SETTINGS.json overrides fields of ``appliance.settings.Settings``. Killed at any time, with any signal, the agent
leaves the appliance working, and started again it goes on from there.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
import sys
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

# collections while modules load find nothing and take a third of the time
gc.disable()

from appliance.agent import boot, control, statedisk  # noqa: E402
from appliance.agent.api import Api  # noqa: E402
from appliance.agent.server import Server  # noqa: E402
from appliance.agent.tls import Certificates, is_control_plane  # noqa: E402
from appliance.agent.worker import Prober, Worker  # noqa: E402
from appliance.engine import catalogue  # noqa: E402
from appliance.engine.direct import DirectSupervisor  # noqa: E402
from appliance.engine.engine import Engine  # noqa: E402
from appliance.engine.parse import Parser  # noqa: E402
from appliance.engine.service import Host  # noqa: E402
from appliance.engine.systemd import SystemdSupervisor  # noqa: E402
from appliance.errors import GatehouseError  # noqa: E402
from appliance.netfilter.base import guard  # noqa: E402
from appliance.netfilter.kernel import Netfilter  # noqa: E402
from appliance.schema.envelope import Identity  # noqa: E402
from appliance.settings import Settings  # noqa: E402


def _settings(arguments: list[str]) -> Settings:
    if not arguments:
        return Settings()
    given = json.loads(Path(arguments[0]).read_text())
    overrides: Any = {name: Path(value) if name.endswith("_dir") else value for name, value in given.items()}
    return replace(Settings(), **overrides)


def _supervisor(settings: Settings) -> DirectSupervisor | SystemdSupervisor:
    return SystemdSupervisor(settings) if settings.supervisor == "systemd" else DirectSupervisor(settings)


def serve(settings: Settings) -> None:
    """Run the agent; returns never. Raises when the identity or the control interface is not usable."""
    kept = None
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        boot.unpack(Path(credentials), settings.identity_dir, settings.state_dir)
        kept = boot.kept_certificate(settings.state_dir)
    identity = Identity.model_validate_json((settings.identity_dir / "identity.json").read_bytes())
    certificates = Certificates(settings.identity_dir, kept)
    parser = Parser(identity.role, catalogue.document_type(identity.role))
    supervisor = _supervisor(settings)
    base = guard(identity.control.name, identity.port, *boot.further_ports(settings.identity_dir))
    engine = Engine(Host(settings, supervisor, Netfilter()), catalogue.services(identity.role), parser, base)
    engine.guard()
    control.set_up(identity.control)
    prober = Prober(engine, settings.probe_interval)
    worker = Worker(engine, prober, settings.watch_interval)
    state_disk = partial(statedisk.trouble, settings.run_dir, settings.state_dir)
    api = Api(identity, engine, worker, prober, certificates, state_disk=state_disk)
    address = str(IPv4Interface(identity.control.address).ip)
    listener = socket.create_server((address, identity.port), backlog=128)
    worker.start()
    prober.start()
    supervisor.watch(engine.unit_restarted)
    gc.enable()
    Server(listener, certificates.context, is_control_plane, api.handle).run()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        serve(_settings(sys.argv[1:]))
    except (GatehouseError, OSError, ValueError) as error:
        # critical, so that it is also on the console, where an operator without a way in looks (sd-daemon(3))
        level = "<2>" if "JOURNAL_STREAM" in os.environ else ""
        print(f"{level}agent: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
