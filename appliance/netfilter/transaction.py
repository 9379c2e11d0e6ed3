"""From one ruleset to another as nft syntax (nft(8)), to be run as one atomic transaction. Pure.

Elements of sets that stay are added and deleted one by one. A chain whose rules changed is flushed and refilled.
When a chain or set vanishes or is declared differently, every chain is flushed first, because the kernel
deletes only what no rule refers to; chains hold few rules, the long lists are sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.netfilter.ruleset import TABLE, Ruleset, Set

#: set name -> element key -> (packets, bytes)
Counters = Mapping[str, Mapping[str, tuple[int, int]]]


def replacement(after: Ruleset | None, counters: Counters | None = None) -> str:
    """Replace the whole table, whatever is in it. ``counters`` are where the elements of counted sets begin."""
    # adding first makes the deletion work when there is no table
    table = after.table if after is not None else TABLE
    lines = [f"add table {table}", f"delete table {table}"]
    if after is not None:
        lines.append(f"add table {table}")
        lines.extend(_declare_chain(table, name, header) for name, header in after.chains.items())
        for name, some in after.sets.items():
            lines.extend(_declare_set(table, name, some))
            lines.extend(_add_elements(table, name, some, some.elements, (counters or {}).get(name, {})))
        lines.extend(_add_rules(after, after.rules))
    return "\n".join(lines) + "\n"


def delta(before: Ruleset, after: Ruleset, counters: Counters | None = None) -> str:
    """Turn a table that holds ``before`` into ``after``; "" when they are the same.

    ``counters`` are where the elements of counted sets begin that are declared anew.
    """
    redeclared = {
        name
        for name, some in before.sets.items()
        if name not in after.sets or _declaration(some) != _declaration(after.sets[name])
    }
    gone_chains = {name for name, header in before.chains.items() if after.chains.get(name) != header}
    new_chains = [name for name, header in after.chains.items() if before.chains.get(name) != header]
    if redeclared or gone_chains:
        flushed = list(before.chains)
        refilled = list(after.chains)
    else:
        changed = [name for name in after.chains if before.rules.get(name, ()) != after.rules.get(name, ())]
        flushed = [name for name in changed if before.rules.get(name)]
        refilled = changed

    table = after.table
    lines = [f"flush chain {table} {name}" for name in flushed]
    added: list[str] = []
    for name, some in after.sets.items():
        old = before.sets.get(name)
        if old is None or name in redeclared:
            added.extend(_declare_set(table, name, some))
            added.extend(_add_elements(table, name, some, some.elements, (counters or {}).get(name, {})))
        elif old.elements is not some.elements:
            known = old.elements
            fresh = {key: value for key, value in some.elements.items() if known.get(key) != value}
            removed = [key for key in fresh if key in known] + sorted(known.keys() - some.elements.keys())
            if removed:
                lines.append(f"delete element {table} {name} {{ {', '.join(removed)} }}")
            added.extend(_add_elements(table, name, some, fresh, {}))
    # maps before chains: a verdict map refers to the chains it jumps to
    lines.extend(
        f"delete {'map' if before.sets[name].is_map else 'set'} {table} {name}"
        for name in before.sets
        if name in redeclared
    )
    lines.extend(f"delete chain {table} {name}" for name in before.chains if name in gone_chains)
    lines.extend(_declare_chain(table, name, after.chains[name]) for name in new_chains)
    lines.extend(added)
    lines.extend(_add_rules(after, refilled))
    return "\n".join(lines) + "\n" if lines else ""


def redeclared_counted(before: Ruleset, after: Ruleset) -> list[str]:
    """Names of the counted sets that ``delta`` deletes and adds again."""
    return [
        name
        for name, some in after.sets.items()
        if some.counted
        and name in before.sets
        and before.sets[name].counted
        and _declaration(before.sets[name]) != _declaration(some)
    ]


def counted(ruleset: Ruleset) -> list[str]:
    """Names of the counted sets."""
    return [name for name, some in ruleset.sets.items() if some.counted]


def _declaration(some: Set) -> tuple[str, bool, bool]:
    return (some.spec, some.is_map, some.counted)


def _declare_chain(table: str, name: str, header: str) -> str:
    return f"add chain {table} {name} {{ {header} }}" if header else f"add chain {table} {name}"


def _declare_set(table: str, name: str, some: Set) -> Iterable[str]:
    counter = " counter;" if some.counted else ""
    yield f"add {'map' if some.is_map else 'set'} {table} {name} {{ {some.spec}{counter} }}"


def _add_elements(
    table: str, name: str, some: Set, elements: Mapping[str, str], counters: Mapping[str, tuple[int, int]]
) -> Iterable[str]:
    if not elements:
        return
    if counters:
        texts = [f"{key}{_counter(counters.get(key))}{_value(value)}" for key, value in elements.items()]
    elif some.is_map:
        texts = [f"{key} : {value}" for key, value in elements.items()]
    else:
        texts = list(elements)
    yield f"add element {table} {name} {{ {', '.join(texts)} }}"


def _counter(start: tuple[int, int] | None) -> str:
    return f" counter packets {start[0]} bytes {start[1]}" if start else ""


def _value(value: str) -> str:
    return f" : {value}" if value else ""


def _add_rules(ruleset: Ruleset, chains: Iterable[str]) -> Iterable[str]:
    for chain in chains:
        for _, rule in ruleset.rules.get(chain, ()):
            yield f"add rule {ruleset.table} {chain} {rule}"
