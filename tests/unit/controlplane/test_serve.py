"""The log of ``gatehouse serve``."""

from __future__ import annotations

import logging

from controlplane.serve import LineFormatter


def test_a_name_with_a_line_end_begins_no_line_of_the_log() -> None:
    record = logging.LogRecord("api", logging.INFO, "x.py", 1, "network %s", ("a\n2026-11-22 INFO forged",), None)
    assert LineFormatter("%(name)s: %(message)s").format(record) == "api: network a\\n2026-11-22 INFO forged"


def test_tracebacks_keep_their_lines() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("api", logging.ERROR, "x.py", 1, "failed", (), info)
    lines = LineFormatter("%(message)s").format(record).splitlines()
    assert (lines[0], lines[-1]) == ("failed", "ValueError: bad")
