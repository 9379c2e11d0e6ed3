from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from controlplane.core import Stopping
from controlplane.errors import ApiError
from controlplane.workflows.turns import Turns


def test_no_more_than_so_many_in_one_place() -> None:
    turns, lock = Turns(), threading.Lock()
    now = most = 0
    full = threading.Barrier(2)

    def work() -> None:
        nonlocal now, most
        with turns.turn("h", lambda: 2, 20, lambda: False):
            with lock:
                now += 1
                most = max(most, now)
            # pairs go through together: two at once is really reached
            full.wait(20)
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result()
    assert most == 2


def test_another_place_and_no_limit_do_not_wait() -> None:
    turns = Turns()
    with turns.turn("h", lambda: 1, 0, lambda: False), turns.turn("i", lambda: 1, 0, lambda: False):
        pass
    with turns.turn("h", lambda: 0, 0, lambda: False), turns.turn("h", lambda: 0, 0, lambda: False):
        pass


def test_who_waits_too_long_is_told_and_leaves_no_trace() -> None:
    turns = Turns()
    with turns.turn("h", lambda: 1, 0, lambda: False):
        with pytest.raises(ApiError, match="for its turn"), turns.turn("h", lambda: 1, 0.01, lambda: False):
            pass
        with pytest.raises(Stopping), turns.turn("h", lambda: 1, 60, lambda: True):
            pass
    with turns.turn("h", lambda: 1, 0, lambda: False):
        pass
