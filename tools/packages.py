"""Debian packages that are missing, installed: ``python3 tools/packages.py FILE...``; the standard library only.

What the tests run by themselves (HAProxy, nginx, Swift, an SSH server) must not run beside that: no service of a
package that is installed here starts, now or at boot, but libvirt's. invoke-rc.d(8) asks /usr/sbin/policy-rc.d; one
that the machine has already is left as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
#: exit status 101: forbidden
_DENY = '#!/bin/sh\ncase "$1" in libvirt*|virt*) exit 0;; *) exit 101;; esac\n'
_WANTED = ("libvirt", "virt")


def main(lists: list[str]) -> int:
    """Install what is missing of the names in the files, one a line. Runs apt only when something is."""
    lines = [line.split("#")[0].strip() for path in lists for line in Path(path).read_text().splitlines()]
    missing = sorted({line for line in lines if line and not _installed(line)})
    if not missing:
        return 0
    print("installing:", *missing, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    before = _enabled()
    subprocess.run(["/usr/bin/apt-get", "update", "-qq"], check=True, env=environment)
    with _no_services():
        install = ["/usr/bin/apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)
    new = sorted(unit for unit in _enabled() - before if not unit.startswith(_WANTED))
    if new:
        subprocess.run(["/usr/bin/systemctl", "disable", "--quiet", *new], check=True)
        print("not started at boot:", *new)
    return 0


def _installed(name: str) -> bool:
    query = ["/usr/bin/dpkg-query", "-W", "-f", "${db:Status-Status}\n", name]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return "installed" in found.stdout.split()


def _enabled() -> set[str]:
    """Units that start at boot; none where systemd is not in charge."""
    if not Path("/run/systemd/system").is_dir():
        return set()
    query = ["/usr/bin/systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--plain", "--full"]
    found = subprocess.run(query, capture_output=True, text=True, check=True)
    return {line.split()[0] for line in found.stdout.splitlines() if line.strip()}


@contextmanager
def _no_services() -> Iterator[None]:
    try:
        with _POLICY.open("x") as policy:
            policy.write(_DENY)
    except FileExistsError:
        yield
        return
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
