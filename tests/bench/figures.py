"""What a benchmark found: figures with their targets, and the table they are shown in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Target:
    """A bound on a figure's value, or on its ratio to the baseline."""

    bound: Literal["at most", "at least"]
    number: float
    of: Literal["value", "ratio"] = "value"

    def met(self, figure: Figure) -> bool:
        measured = figure.value if self.of == "value" else figure.ratio
        if measured is None:
            raise ValueError(f"{figure.measure}: a target for the ratio needs a baseline")
        return measured <= self.number if self.bound == "at most" else measured >= self.number


@dataclass(frozen=True)
class Figure:
    """One line of the table. ``samples`` and ``baseline_samples`` hold what the medians are of, in ``unit``."""

    measure: str
    unit: str
    samples: Sequence[float]
    target: Target | None = None
    baseline: str = ""
    baseline_samples: Sequence[float] = ()
    #: further facts for the JSON, e.g. seconds by stage
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """Median of each sample by the baseline's sample of the same round, which the same disturbances fell on."""
        pairs = zip(self.samples, self.baseline_samples, strict=True) if self.baseline_samples else ()
        return statistics.median(ratios) if (ratios := [value / baseline for value, baseline in pairs]) else None

    @property
    def verdict(self) -> Literal["pass", "miss", ""]:
        """Empty when there is no target."""
        if self.target is None:
            return ""
        return "pass" if self.target.met(self) else "miss"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "value": self.value, "ratio": self.ratio, "verdict": self.verdict}


def interleaved(rounds: int, **measures: Callable[[], Sample]) -> dict[str, list[Sample]]:
    """Take each measure once a round, so that whatever else the machine does falls on all of them alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in measures}
    for number in range(rounds):
        # the other way round every second time: whoever is second finds the caches as the first left them
        for name in list(measures) if number % 2 == 0 else list(reversed(measures)):
            samples[name].append(measures[name]())
    return samples


def short(number: float) -> str:
    """Three significant digits, thousands separated."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


HEADER = ("measure", "value", "target", "ratio", "")


def row(figure: Figure) -> tuple[str, ...]:
    target = ""
    if figure.target:
        unit = f" {figure.unit}" if figure.target.of == "value" else ""
        target = f"{figure.target.bound} {short(figure.target.number)}{unit}"
    ratio = f"{figure.ratio:.2f} of {figure.baseline}" if figure.ratio is not None else ""
    return figure.measure, f"{short(figure.value)} {figure.unit}", target, ratio, figure.verdict


def table(figures: Sequence[Figure]) -> str:
    """All figures as aligned text."""
    rows = [HEADER, *(row(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
