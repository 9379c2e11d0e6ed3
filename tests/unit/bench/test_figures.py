"""Figures: medians, ratios, verdicts and the table."""

from __future__ import annotations

import json

import pytest

from tests.bench.figures import Figure, Target, interleaved, table


def test_value_is_the_median_and_ratio_that_of_the_rounds() -> None:
    figure = Figure("rate", "/s", [10.0, 90.0, 30.0], None, "plain", [20.0, 100.0, 10.0])
    assert figure.value == 30.0
    assert figure.ratio == 0.9
    assert Figure("rate", "/s", [1.0]).ratio is None


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        (None, ""),
        (Target("at most", 30), "pass"),
        (Target("at most", 29.9), "miss"),
        (Target("at least", 30), "pass"),
        (Target("at least", 30.1), "miss"),
        (Target("at least", 0.5, of="ratio"), "pass"),
        (Target("at least", 0.51, of="ratio"), "miss"),
    ],
)
def test_verdict(target: Target | None, verdict: str) -> None:
    assert Figure("rate", "/s", [30.0], target, "plain", [60.0]).verdict == verdict


def test_a_target_for_a_ratio_needs_a_baseline() -> None:
    with pytest.raises(ValueError, match="needs a baseline"):
        _ = Figure("rate", "/s", [30.0], Target("at least", 0.5, of="ratio")).verdict


def test_interleaved_turns_the_order_round() -> None:
    order: list[str] = []

    def note(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = interleaved(2, a=lambda: note("a"), b=lambda: note("b"))
    assert order == ["a", "b", "b", "a"]
    assert samples == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_table_and_json() -> None:
    figures = [
        Figure("one rule added", "ms", [81.23], Target("at most", 100)),
        Figure("connections", "/s", [18000.0], Target("at least", 0.9, of="ratio"), "one rule", [20000.0]),
    ]
    assert table(figures).splitlines()[2:] == [
        "one rule added  81.2 ms    at most 100 ms                    pass",
        "connections     18,000 /s  at least 0.9    0.90 of one rule  pass",
    ]
    assert json.loads(json.dumps(figures[1].as_json()))["ratio"] == 0.9
