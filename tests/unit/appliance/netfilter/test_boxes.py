"""Unions of boxes, compared with sets of points."""

from __future__ import annotations

from itertools import combinations, product
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from appliance.netfilter.boxes import Box, disjoint

INTERVALS = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda ends: (min(ends), max(ends)))
BOXES = st.integers(1, 3).flatmap(lambda size: st.lists(st.tuples(*[INTERVALS] * size), max_size=6))


def points(box: Box) -> set[tuple[int, ...]]:
    return set(product(*(range(low, high + 1) for low, high in box)))


@given(BOXES)
def test_the_union_is_the_same_and_nothing_overlaps(boxes: list[Box]) -> None:
    result = disjoint(boxes)
    assert set().union(*map(points, result)) == set().union(*map(points, boxes))
    assert not any(points(one) & points(other) for one, other in combinations(result, 2))


@given(BOXES, st.randoms())
def test_the_order_does_not_matter(boxes: list[Box], random: Random) -> None:
    shuffled = list(boxes)
    random.shuffle(shuffled)
    assert disjoint(boxes) == disjoint(shuffled)


def test_boxes_that_overlap_nothing_stay_as_they_are() -> None:
    boxes = [((80, 80), (0, 9)), ((90, 95), (0, 9)), ((81, 81), (3, 4))]
    assert disjoint(boxes) == sorted(boxes)
