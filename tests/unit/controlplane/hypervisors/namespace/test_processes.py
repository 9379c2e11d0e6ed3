from __future__ import annotations

import os
from dataclasses import replace

from controlplane.hypervisors.namespace.processes import Process, members, parse_stat

STAT = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 3284 2068"


def test_a_program_s_name_may_hold_anything() -> None:
    assert parse_stat(STAT) == ("S", 4711)


def test_a_later_process_or_boot_with_the_same_number_is_another() -> None:
    own = Process.of(os.getpid())
    assert own is not None
    assert own.alive()
    assert not replace(own, start=own.start + 1).alive()
    assert not replace(own, boot="an earlier one").alive()


def test_no_process_has_a_number_beyond_the_largest() -> None:
    assert Process.of(1 << 22) is None
    assert members(1 << 22) == []
