"""Unions of boxes: overlapping ranges of ports, addresses, ICMP types turned into ranges that do not overlap.

The kernel refuses overlapping elements in an interval set, while a tenant may well open 80-90 to everyone and 85 to an
office. A box is a tuple of inclusive integer intervals, one a dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Interval = tuple[int, int]
Box = tuple[Interval, ...]


def disjoint(boxes: Sequence[Box]) -> list[Box]:
    """Boxes that cover exactly what ``boxes`` (all of the same dimension) cover, none overlapping, sorted.

    The result depends on the set of boxes only, not on their order. Boxes that overlap nothing come back as they
    are. O(n log n) for n of those; overlapping ones are cut along their first dimension.
    """
    result: list[Box] = []
    cluster: list[Box] = []
    end = -1
    for box in sorted(boxes):
        low, high = box[0]
        if low > end and cluster:
            result.extend(_cut(cluster))
            cluster = []
        cluster.append(box)
        end = max(end, high)
    if cluster:
        result.extend(_cut(cluster))
    return result


def _cut(cluster: list[Box]) -> list[Box]:
    """``disjoint`` of boxes whose first intervals form one chain of overlaps."""
    if len(cluster) == 1:
        return cluster
    if len(cluster[0]) == 1:
        return [((cluster[0][0][0], max(box[0][1] for box in cluster)),)]
    edges = sorted({edge for box in cluster for edge in (box[0][0], box[0][1] + 1)})
    slices: list[tuple[int, int, list[Box]]] = []
    for low, after in pairwise(edges):
        rest = disjoint([box[1:] for box in cluster if box[0][0] <= low <= box[0][1]])
        if slices and slices[-1][2] == rest:
            slices[-1] = (slices[-1][0], after - 1, rest)
        else:
            slices.append((low, after - 1, rest))
    return [((low, high), *tail) for low, high, rest in slices for tail in rest]
