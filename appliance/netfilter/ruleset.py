"""A ruleset as data: what services contribute to the appliance's one nftables table, and how contributions merge.

Expressions are nft syntax (nft(8)); elements are data, so that a change of one costs one element. Every chain, set
and map of an appliance lives in ``table inet gatehouse``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")

TABLE = "inet gatehouse"


@dataclass(frozen=True)
class Set:
    """A set, or a map when ``is_map``. ``spec`` is the declaration, e.g. ``type ipv4_addr; flags interval;``.

    ``elements`` maps each key (nft syntax, as ``203.0.113.5 . tcp . 80``) to its value, "" in a set.
    ``counted`` sets keep a packet and byte counter on each element, which a reload carries over; their spec must not
    say ``interval`` (libnftables 1.0.6 forgets where the counters of an interval set begin).
    """

    spec: str
    elements: Mapping[str, str] = field(default_factory=dict)
    is_map: bool = False
    counted: bool = False


def roomy(count: int) -> str:
    """For the spec of a set that many packets are looked up in: a size for ``count`` elements and as many more.

    The kernel has a hash table for sets whose size is known that is quicker than the one that grows. With more elements
    than the size a set is declared anew.
    """
    return f"size {1 << max(10, (2 * count - 1).bit_length())};"


@dataclass(frozen=True)
class Ruleset:
    """One service's contribution, or all of them merged.

    ``chains``: name -> header (``type filter hook input priority filter; policy drop;``, "" for a regular chain).
    ``rules``: chain name -> ((order, rule), ...); rules of all services are sorted by order within a chain.
    ``table``: family and name of the table that it is the whole of.
    """

    chains: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, tuple[tuple[int, str], ...]] = field(default_factory=dict)
    sets: Mapping[str, Set] = field(default_factory=dict)
    table: str = TABLE


def _add(kind: str, ours: dict[str, Item], theirs: Mapping[str, Item]) -> None:
    if clash := ours.keys() & theirs.keys():
        raise ValueError(f"two services declare the {kind} {', '.join(sorted(clash))}")
    ours.update(theirs)


def merge(parts: Iterable[Ruleset]) -> Ruleset:
    """All contributions as one ruleset. Raises ValueError when two declare the same chain or set."""
    chains: dict[str, str] = {}
    rules: dict[str, list[tuple[int, str]]] = {}
    sets: dict[str, Set] = {}
    for part in parts:
        _add("chain", chains, part.chains)
        _add("set", sets, part.sets)
        for chain, some in part.rules.items():
            rules.setdefault(chain, []).extend(some)
    return Ruleset(
        chains=chains,
        rules={chain: tuple(sorted(some, key=lambda rule: rule[0])) for chain, some in rules.items()},
        sets=sets,
    )
