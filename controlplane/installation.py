"""What a control plane notes in its data directory for the command line: how it was last started."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance.errors import GatehouseError
from controlplane.hypervisors.registry import HypervisorOptions

FILE = "serve.json"
#: held by the process that serves the data directory
LOCK = "serve.lock"


@dataclass(frozen=True)
class Installation:
    """How a control plane was last started."""

    endpoint: str
    hypervisor: str
    #: of HypervisorOptions, what was given
    options: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, endpoint: str, hypervisor: str, options: HypervisorOptions) -> Installation:
        given = {name: value for name, value in asdict(options).items() if value is not None}
        # the command line may be used in another directory
        given = {name: str(item.absolute() if isinstance(item, Path) else item) for name, item in given.items()}
        return cls(endpoint, hypervisor, given)

    def hypervisor_options(self) -> HypervisorOptions:
        given = {name: text if name == "libvirt_uri" else Path(text) for name, text in self.options.items()}
        return HypervisorOptions(**given)  # type: ignore[arg-type]


def local_endpoint(host: str, port: int, *, tls: bool) -> str:
    """The API's address for clients on this machine: a wildcard address is reached through loopback."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    name = f"[{local}]" if ":" in local else local
    return f"{'https' if tls else 'http'}://{name}:{port}/client/api"


def write_installation(data: Path, installation: Installation) -> None:
    """Note it in the data directory, at once or not at all."""
    temporary = data / f"{FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(installation)) + "\n")
    temporary.rename(data / FILE)


def read_installation(data: Path) -> Installation:
    """Raises GatehouseError when no control plane was ever started there."""
    try:
        return Installation(**json.loads((data / FILE).read_text()))
    except FileNotFoundError:
        raise GatehouseError(
            f"{data} is not the data directory of a control plane; start one with gatehouse serve --data {data}, or "
            "name another with --data"
        ) from None
    except (ValueError, TypeError) as error:
        raise GatehouseError(f"{data / FILE} is damaged ({error}); start the control plane once more") from None
