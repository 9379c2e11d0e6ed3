"""Resource tags."""

from __future__ import annotations

from sqlalchemy import Select, select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Async, Entry, Params, ScopedListParams, command, param
from controlplane.api.tagging import TAGGABLE, TagEntry, TagResponse, tag_responses
from controlplane.errors import ParameterError
from controlplane.store.models import Account, Tag, Template

_TYPES = tuple(TAGGABLE)


class CreateTags(Params):
    resourceids: list[str] = param("list of resources to create the tags for")
    resourcetype: str = param("type of the resource", choices=_TYPES)
    tags: list[TagEntry] = param("Map of tags (key/value pairs)")


@command(
    "createTags",
    description="Creates resource tag(s)",
    params=CreateTags,
    is_async=True,
    event="CREATE_TAGS",
)
def create_tags(call: Call, params: CreateTags) -> Async:
    for resource in dict.fromkeys(params.resourceids):
        owner = _owner(call, params.resourcetype, resource)
        for entry in params.tags:
            found = _tags_on(params.resourcetype, resource).where(Tag.key == entry.key)
            if call.session.scalars(found).first() is not None:
                raise ParameterError(f"tag {entry.key} already exists on {params.resourcetype} {resource}")
            call.session.add(
                Tag(
                    resource_type=params.resourcetype,
                    resource_id=resource,
                    account_id=owner.id,
                    key=entry.key,
                    value=entry.value,
                )
            )
            call.session.flush()
    return Async(params.resourcetype, params.resourceids[0], f"creating tags of {params.resourcetype}")


def _owner(call: Call, resource_type: str, resource: str) -> Account:
    """The account that tags of a resource belong to. PermissionDeniedError unless the caller may tag it."""
    row = call.lookup(TAGGABLE[resource_type], resource, "resourceids")
    if isinstance(row, Template):
        # everybody may use a public template, but its tags are its owner's
        call.check_account(call.session.get_one(Account, row.account_id))
    return call.owner_of(row) or call.account


def _tags_on(resource_type: str, resource: str) -> Select[Tag]:
    return select(Tag).where(Tag.resource_type == resource_type, Tag.resource_id == resource)


class DeletedTag(Entry):
    key: str = param("key of the tag")
    value: str | None = param("value of the tag; any when not given", default=None)


class DeleteTags(Params):
    resourceids: list[str] = param("Delete tags for resource id(s)")
    resourcetype: str = param("Delete tag by resource type", choices=_TYPES)
    tags: list[DeletedTag] | None = param("Delete tags matching key/value pairs; all when not given", default=None)


@command(
    "deleteTags",
    description="Deleting resource tag(s)",
    params=DeleteTags,
    is_async=True,
    event="DELETE_TAGS",
)
def delete_tags(call: Call, params: DeleteTags) -> Async:
    for resource in dict.fromkeys(params.resourceids):
        _owner(call, params.resourcetype, resource)
        for tag in call.session.scalars(_tags_on(params.resourcetype, resource)).all():
            if params.tags is None or any(
                entry.key == tag.key and entry.value in (None, tag.value) for entry in params.tags
            ):
                call.session.delete(tag)
    return Async(params.resourcetype, params.resourceids[0], f"deleting tags of {params.resourcetype}")


class ListTags(ScopedListParams):
    resourcetype: str | None = param("list by resource type", default=None, choices=_TYPES)
    resourceid: str | None = param("list by resource id", default=None)
    key: str | None = param("list by key", default=None)
    value: str | None = param("list by value", default=None)


@command(
    "listTags",
    description="List resource tag(s)",
    params=ListTags,
    response=TagResponse,
    object_name="tag",
)
def list_tags(call: Call, params: ListTags) -> tuple[int, list[TagResponse]]:
    statement = listing.scope(call, select(Tag), Tag.account_id, params, by_id=params.resourceid is not None)
    for column, value in (
        (Tag.resource_type, params.resourcetype),
        (Tag.resource_id, params.resourceid),
        (Tag.key, params.key),
        (Tag.value, params.value),
    ):
        if value is not None:
            statement = statement.where(column == value)
    statement = listing.search(statement, params.keyword, Tag.key, Tag.value).order_by(Tag.created, Tag.id)
    return listing.fetch(call, statement, params, lambda rows: tag_responses(call.session, rows))
