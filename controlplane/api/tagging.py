"""Resource tags: in parameters, in answers and as a filter of lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from controlplane.api.command import Entry, param, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.store.models import (
    Account,
    Entity,
    FirewallRule,
    LoadBalancer,
    Network,
    PortForwardingRule,
    PublicIp,
    SecurityGroup,
    SecurityGroupRule,
    Snapshot,
    Tag,
    Template,
    Vm,
    Volume,
)

#: What can have tags: the API's name of the type -> the table.
TAGGABLE: dict[str, type[Entity]] = {
    "UserVm": Vm,
    "Network": Network,
    "PublicIpAddress": PublicIp,
    "PortForwardingRule": PortForwardingRule,
    "FirewallRule": FirewallRule,
    "LoadBalancer": LoadBalancer,
    "Template": Template,
    "ISO": Template,
    "SecurityGroup": SecurityGroup,
    "SecurityGroupRule": SecurityGroupRule,
    "Volume": Volume,
    "Snapshot": Snapshot,
}


class TagEntry(Entry):
    """``tags[n].key`` and ``tags[n].value``."""

    key: str = param("key of the tag")
    value: str = param("value of the tag")


class TagResponse(OwnedResponse):
    """A tag as it is shown inside its resource and by listTags."""

    key: str = shown("tag key name", ...)
    value: str = shown("tag value", ...)
    resourcetype: str = shown("resource type", ...)
    resourceid: str = shown("id of the resource", ...)


def tag_responses(session: Session, tags: Iterable[Tag]) -> list[TagResponse]:
    return [
        TagResponse(
            key=tag.key,
            value=tag.value,
            resourcetype=tag.resource_type,
            resourceid=tag.resource_id,
            **owned_by(session.get_one(Account, tag.account_id)),
        )
        for tag in tags
    ]


def tags_of(session: Session, resource_type: str, ids: Sequence[str]) -> dict[str, list[TagResponse]]:
    """The tags of many resources of one type in one query: resource id -> tags (an empty list where there are none)."""
    found: dict[str, list[TagResponse]] = defaultdict(list)
    if ids:
        statement = select(Tag).where(Tag.resource_type == resource_type, Tag.resource_id.in_(ids)).order_by(Tag.key)
        for tag in tag_responses(session, session.scalars(statement)):
            found[tag.resourceid].append(tag)
    return found


def with_tags(
    statement: Select[Any], resource_type: str, id_column: InstrumentedAttribute[str], wanted: list[TagEntry] | None
) -> Select[Any]:
    """Restrict a list to resources that carry all the wanted tags."""
    for tag in wanted or ():
        statement = statement.where(
            exists().where(
                Tag.resource_type == resource_type,
                Tag.resource_id == id_column,
                Tag.key == tag.key,
                Tag.value == tag.value,
            )
        )
    return statement


def remove_tags(session: Session, resource_type: str, resource_id: str) -> None:
    """Forget the tags of a resource that is going away."""
    statement = select(Tag).where(Tag.resource_type == resource_type, Tag.resource_id == resource_id)
    for tag in session.scalars(statement):
        session.delete(tag)
