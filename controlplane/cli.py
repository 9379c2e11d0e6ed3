"""``gatehouse``: the command line. Exit status: 0 done, 1 failed, 2 wrong usage; ``exec`` has its command's own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import GatehouseError
from controlplane.version import VERSION

DEFAULT_DATA = Path("/var/lib/gatehouse-cloud")
FAILED, USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the process exits with what this returns."""
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        status: int = options.run(options)
    except GatehouseError as error:
        print(f"gatehouse: {error}", file=sys.stderr)
        return FAILED
    except PermissionError as error:
        print(f"gatehouse: {error}; run it as the user that the control plane runs as", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output went away (| head): nothing to tell, and nowhere to tell it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def make_parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="gatehouse", description="The network side of a private cloud: control plane and its tools."
    )
    parser.add_argument("--version", action="version", version=f"gatehouse {VERSION}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_admin_keys(commands)
    _add_status(commands)
    _add_exec(commands)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get("GATEHOUSE_DATA", DEFAULT_DATA))
    parser.add_argument(
        "--data",
        type=Path,
        default=default,
        metavar="DIR",
        help="the control plane's data directory (default: $GATEHOUSE_DATA, else %(default)s)",
    )


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the control plane and its API",
        description="Run the control plane until SIGTERM or SIGINT. Appliances and guests go on working when it ends. "
        "A first start makes a zone, offerings, templates and an administrator; see admin-keys.",
    )
    _add_data(parser)
    parser.add_argument(
        "--listen",
        type=listen_address,
        default=("127.0.0.1", 8080),
        metavar="ADDR:PORT",
        help="where the API listens (default: 127.0.0.1:8080); IPv6 as [ADDR]:PORT",
    )
    parser.add_argument(
        "--hypervisor", default="namespace", help="what runs appliances and guests (default: %(default)s)"
    )
    parser.add_argument(
        "--libvirt-uri", metavar="URI", help="the libvirt daemon of the first host (default: qemu:///system)"
    )
    parser.add_argument(
        "--storage",
        type=Path,
        metavar="DIR",
        help="templates and disks of libvirt's virtual machines (default: DIR-storage beside the data directory)",
    )
    parser.add_argument(
        "--system-image",
        type=Path,
        metavar="FILE",
        help="the qcow2 image that routers boot as virtual machines (default: templates/systemvm.qcow2 of the storage)",
    )
    parser.add_argument(
        "--ssh-keys",
        type=Path,
        metavar="FILE",
        help="public keys, one a line, that log in as root to routers and system VMs in virtual machines, at port "
        "3922 of their control addresses, from their next start on (default: nobody)",
    )
    parser.add_argument(
        "--integration-port",
        type=port_number,
        metavar="N",
        help="also listen on this port of 127.0.0.1, where every caller is the administrator (default: off)",
    )
    parser.add_argument(
        "--tls-certificate", type=Path, metavar="FILE", help="serve HTTPS with this PEM certificate chain"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the private key of the certificate")
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error"), help="(default: %(default)s)"
    )
    parser.set_defaults(run=_serve)


def _add_admin_keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "admin-keys",
        help="print the administrator's API keys as JSON",
        description='Print {"endpoint", "apikey", "secretkey"} of the first administrator. Only the user that the '
        "control plane runs as can read them. Its password is in DIR/admin.json.",
    )
    _add_data(parser)
    parser.set_defaults(run=_admin_keys)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="show whether the control plane runs and how its routers are",
        description="Show the state of a control plane from its data directory. Exit status 1 when it does not run or "
        "a router is not healthy.",
    )
    _add_data(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_status)


def _add_exec(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "exec",
        help="run a command inside a guest",
        usage="gatehouse exec [--data DIR] GUEST -- COMMAND [ARGUMENT ...]",
        description="Run a command inside a guest, or a router, on this terminal. The exit status is the command's.",
    )
    _add_data(parser)
    parser.add_argument("guest", metavar="GUEST", help="name or id of a virtual machine, or of a router")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="what to run, after --")
    parser.set_defaults(run=_exec)


def listen_address(text: str) -> tuple[str, int]:
    """``127.0.0.1:8080`` or ``[::1]:8080`` as (host, port)."""
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDR:PORT, such as 127.0.0.1:8080")
    return host.removeprefix("[").removesuffix("]"), port_number(port)


def port_number(text: str) -> int:
    """A TCP port from 1 to 65535."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


# each command imports what it needs: --help must not wait for the whole control plane


def _serve(options: argparse.Namespace) -> int:
    from controlplane.hypervisors.registry import enter_hypervisor

    enter_hypervisor(options.hypervisor, options.data)
    from controlplane.hypervisors.registry import HypervisorOptions
    from controlplane.serve import ServeOptions, serve

    host, port = options.listen
    serve(
        ServeOptions(
            data=options.data,
            host=host,
            port=port,
            hypervisor=options.hypervisor,
            hypervisor_options=HypervisorOptions(
                options.libvirt_uri, options.storage, options.system_image, options.ssh_keys
            ),
            integration_port=options.integration_port,
            certificate=options.tls_certificate,
            key=options.tls_key,
            log_level=options.log_level.upper(),
        )
    )
    return 0


def _admin_keys(options: argparse.Namespace) -> int:
    import json

    from controlplane.overview import admin_keys

    print(json.dumps(admin_keys(options.data)))
    return 0


def _status(options: argparse.Namespace) -> int:
    import json

    from controlplane.overview import status

    found = status(options.data)
    print(json.dumps(found.as_dict(), indent=2) if options.json else found.as_text())
    return 0 if found.good else FAILED


def _exec(options: argparse.Namespace) -> int:
    from controlplane.hypervisors.registry import enter_hypervisor, make_hypervisor
    from controlplane.installation import read_installation

    installation = read_installation(options.data)
    enter_hypervisor(installation.hypervisor, options.data)
    hypervisor = make_hypervisor(installation.hypervisor, options.data, installation.hypervisor_options())
    instance = options.guest
    if instance not in (known.id for known in hypervisor.instances()):
        # not an id: the tables know the names, and reading them takes ten times as long as all the rest
        from controlplane.overview import find_instance

        instance = find_instance(options.data, instance)
    return hypervisor.exec(instance, options.command)


if __name__ == "__main__":
    sys.exit(main())
