"""A table as the kernel keeps one: takes the commands of a transaction and refuses what the kernel would refuse."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from appliance.netfilter.ruleset import TABLE, Ruleset


class RefusedError(Exception):
    """The kernel would not take this command."""


@dataclass
class Table:
    """Chains with headers and rules; sets with declarations and elements."""

    chains: dict[str, str] = field(default_factory=dict)
    rules: dict[str, list[str]] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=dict)

    def run(self, commands: str) -> None:
        for line in commands.splitlines():
            verb, kind, rest = line.split(" ", 2)
            assert rest.startswith(TABLE), line
            getattr(self, f"_{verb}_{kind}")(rest.removeprefix(TABLE).strip())

    def holds(self, ruleset: Ruleset) -> bool:
        expected = Table()
        for name, header in ruleset.chains.items():
            expected.chains[name] = header
            expected.rules[name] = [rule for _, rule in ruleset.rules.get(name, ())]
        for name, some in ruleset.sets.items():
            kind = "map" if some.is_map else "set"
            expected.declarations[name] = f"{kind} {some.spec}" + (" counter;" if some.counted else "")
            expected.elements[name] = dict(some.elements)
        return expected == self

    def _refer(self, name: str) -> bool:
        texts = [rule for rules in self.rules.values() for rule in rules]
        texts += [value for elements in self.elements.values() for value in elements.values()]
        return any(re.search(rf"(@|jump ){re.escape(name)}\b", text) for text in texts)

    def _add_table(self, rest: str) -> None:
        pass

    def _delete_table(self, rest: str) -> None:
        self.__init__()  # type: ignore[misc]

    def _add_chain(self, rest: str) -> None:
        name, header = _block(rest)
        if self.chains.setdefault(name, header) != header:
            raise RefusedError(rest)
        self.rules.setdefault(name, [])

    def _flush_chain(self, name: str) -> None:
        self.rules[name].clear()

    def _delete_chain(self, name: str) -> None:
        if self.rules[name] or self._refer(name):
            raise RefusedError(f"chain {name} is in use")
        del self.chains[name], self.rules[name]

    def _add_set(self, rest: str, kind: str = "set") -> None:
        name, spec = _block(rest)
        if name in self.declarations:
            raise RefusedError(f"{name} exists")
        self.declarations[name], self.elements[name] = f"{kind} {spec}", {}

    def _add_map(self, rest: str) -> None:
        self._add_set(rest, "map")

    def _delete_set(self, name: str) -> None:
        if self._refer(name):
            raise RefusedError(f"{name} is in use")
        del self.declarations[name], self.elements[name]

    _delete_map = _delete_set

    def _add_element(self, rest: str) -> None:
        name, body = _block(rest)
        for text in body.split(", "):
            key, _, value = text.partition(" : ")
            key = re.sub(r" counter packets \d+ bytes \d+", "", key)
            if key in self.elements[name] or (value.startswith("jump ") and value[5:] not in self.chains):
                raise RefusedError(text)
            self.elements[name][key] = value

    def _delete_element(self, rest: str) -> None:
        name, body = _block(rest)
        for key in body.split(", "):
            if key not in self.elements[name]:
                raise RefusedError(f"no {key} in {name}")
            del self.elements[name][key]

    def _add_rule(self, rest: str) -> None:
        chain, rule = rest.split(" ", 1)
        for reference in re.findall(r"@(\w+)", rule):
            if reference not in self.declarations:
                raise RefusedError(rest)
        self.rules[chain].append(rule)


def _block(rest: str) -> tuple[str, str]:
    name, _, body = rest.partition(" ")
    return name, body.strip().removeprefix("{").removesuffix("}").strip()
