"""``python -m tests.bench``: measures everything, prints the table, writes the result as JSON.

Every figure is the median of several runs; every ratio compares two things measured in turn in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from tests.bench import machine, subjects
from tests.bench.figures import Figure, row, table

RESULTS = Path(__file__).parent / "results"


def found() -> dict[str, ModuleType]:
    """Every module of tests.bench.subjects by name, in the order they give themselves."""
    modules = [
        importlib.import_module(f"{subjects.__name__}.{entry.name}")
        for entry in pkgutil.iter_modules(subjects.__path__)
    ]
    return {module.__name__.rpartition(".")[2]: module for module in sorted(modules, key=lambda module: module.ORDER)}


def arguments(names: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs and smaller numbers; targets do not apply")
    parser.add_argument(
        "--only", choices=names, action="append", metavar="NAME", help=f"one of {', '.join(names)}; may be repeated"
    )
    parser.add_argument("--no-write", action="store_true", help="leave tests/bench/results/ alone")
    return parser.parse_args()


def measure(name: str, module: ModuleType, quick: bool) -> tuple[list[Figure], str]:
    """The figures of one subject, and why there are no more when it failed."""
    print(f"\n== {name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
    begin = time.monotonic()
    figures: list[Figure] = []
    try:
        for figure in module.measure(quick):
            figures.append(figure)
            print("   " + "  ".join(cell for cell in row(figure) if cell), flush=True)
    except Exception:
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        return figures, traceback.format_exc(limit=0).strip()
    print(f"   ({time.monotonic() - begin:.0f} s)", flush=True)
    return figures, ""


def main() -> int:
    """Exit status 0 when everything was measured, whether or not targets were met; 1 when a measure failed."""
    modules = found()
    options = arguments(list(modules))
    if os.geteuid() != 0:
        sys.exit("the benchmark makes network namespaces: run it as root")
    begin = datetime.now(UTC)
    result = {"date": begin.isoformat(timespec="seconds"), "commit": machine.commit(), "quick": options.quick}
    result["machine"] = machine.facts()
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    for name, module in modules.items():
        if options.only and name not in options.only:
            continue
        some, failure = measure(name, module, options.quick)
        figures += some
        if failure:
            failures[name] = failure
    print(f"\n{table(figures)}\n")
    for name, failure in failures.items():
        print(f"{name} failed: {failure}")
    missed = [figure.measure for figure in figures if figure.verdict == "miss"]
    print(
        f"{sum(figure.verdict == 'pass' for figure in figures)} targets met, {len(missed)} missed"
        + "".join(f"\n  missed: {name}" for name in missed)
    )
    if not options.no_write:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{begin:%Y%m%dT%H%M%SZ}{'-quick' if options.quick else ''}.json"
        text = json.dumps(
            {**result, "figures": [figure.as_json() for figure in figures], "failures": failures}, indent=1
        )
        path.write_text(text + "\n")
        print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
