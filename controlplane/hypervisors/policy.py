"""What guests' ports are to let through: security groups, as every host is told (guide: chapter 15.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

TCP, UDP, ICMP = 6, 17, 1


@dataclass(frozen=True, order=True)
class Rule:
    """Traffic with one side: a block of addresses (``cidr``) or the members of a group (``peer``).

    ``protocol`` is an IANA number, None every protocol. ``ports`` (tcp, udp) and the ICMP numbers are None for any.
    """

    protocol: int | None = None
    ports: tuple[int, int] | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    cidr: str | None = None
    peer: str | None = None


@dataclass(frozen=True)
class Group:
    """What members receive, and what they send; without ``egress`` they send everything."""

    ingress: frozenset[Rule] = frozenset()
    egress: frozenset[Rule] = frozenset()


@dataclass(frozen=True)
class Policy:
    """All groups that matter, by id.

    ``members``: group -> the IPv4 addresses of its running members, wherever they run.
    ``ports``: (instance id, MAC) -> the groups of a NIC whose network has security groups.
    """

    groups: Mapping[str, Group] = field(default_factory=dict)
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)


def encode(policy: Policy) -> dict[str, Any]:
    """As JSON has it."""
    return {
        "groups": {
            id: {"ingress": [asdict(rule) for rule in group.ingress], "egress": [asdict(rule) for rule in group.egress]}
            for id, group in policy.groups.items()
        },
        "members": {id: sorted(members) for id, members in policy.members.items()},
        "ports": [[*key, list(groups)] for key, groups in policy.ports.items()],
    }


def decode(raw: Mapping[str, Any]) -> Policy:
    """What ``encode`` gave. Raises KeyError, TypeError or ValueError for anything else."""
    return Policy(
        groups={
            id: Group(frozenset(map(_rule, group["ingress"])), frozenset(map(_rule, group["egress"])))
            for id, group in raw["groups"].items()
        },
        members={id: frozenset(members) for id, members in raw["members"].items()},
        ports={(instance, mac): tuple(groups) for instance, mac, groups in raw["ports"]},
    )


def _rule(raw: Mapping[str, Any]) -> Rule:
    return Rule(**{**raw, "ports": tuple(raw["ports"]) if raw["ports"] else None})
