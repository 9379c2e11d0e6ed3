"""The program that a host is sent has all that it imports: Python's own library, ours and pyroute2."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath

from controlplane.hypervisors.libvirt.remote import pack
from tests.unit.test_imports import ROOT, below, imports

ENTRY = "controlplane.hypervisors.libvirt.remote.serve"


def reached(files: set[str], name: str, seen: set[str]) -> Iterator[tuple[str, str]]:
    """(importing module, name) of everything that is imported from ``name`` on and is not in ``files``."""
    path = next((path for path in candidates(name) if path in files), None)
    if path is None or path in seen:
        return
    seen.add(path)
    for _, imported in imports(ROOT / path):
        if not below(imported, "appliance", "controlplane"):
            yield path, imported
        else:
            known = [part for part in (imported, imported.rpartition(".")[0]) if files & set(candidates(part))]
            if not known:
                yield path, imported
            for part in known:
                yield from reached(files, part, seen)


def candidates(name: str) -> list[str]:
    path = PurePosixPath(*name.split("."))
    return [f"{path}.py", f"{path}/__init__.py"]


def test_it_needs_nothing_else() -> None:
    files = set(zipfile.ZipFile(io.BytesIO(pack.program())).namelist())
    seen: set[str] = set()
    outside = [(path, name) for path, name in reached(files, ENTRY, seen) if not below(name, "pyroute2")]
    assert [found for found in outside if found[1].partition(".")[0] not in sys.stdlib_module_names] == []
    assert {"controlplane/hypervisors/bridges.py", "appliance/netfilter/kernel.py"} <= seen
    assert "pyroute2/__init__.py" in files


def test_the_shell_of_a_host_gets_no_words_of_ours_to_interpret() -> None:
    # one command; what varies comes over its standard input
    assert pack.COMMAND.startswith("exec python3 -I -c '") and pack.COMMAND.count("'") == 2
    assert "\n" not in pack.COMMAND and "$" not in pack.COMMAND and "`" not in pack.COMMAND
