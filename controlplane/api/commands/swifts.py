"""Swift as secondary storage, by the older commands for it (guide: chapter 13.5)."""

from __future__ import annotations

from sqlalchemy import select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import ROOT, ListParams, Params, Response, command, param, shown
from controlplane.api.commands.imagestores import add
from controlplane.store.models import ImageStore


class SwiftResponse(Response):
    """A Swift store; its key is in no answer."""

    id: str = shown("the ID of the image store", ...)
    url: str = shown("the URL that authenticates", ...)
    account: str = shown("the account in Swift", ...)
    username: str = shown("the user of the account", ...)


class AddSwift(Params):
    url: str = param("the URL that authenticates, such as https://swift.example:8080/auth/v1.0", length=2048)
    account: str = param("the account in Swift")
    username: str = param("the user of the account")
    key: str = param("the user's key", secret=True)


def _show(row: ImageStore) -> SwiftResponse:
    account, _, username = str(row.details["user"]).partition(":")
    return SwiftResponse(id=row.id, url=row.url, account=account, username=username)


@command(
    "addSwift",
    description="Adds a Swift image store for all zones",
    params=AddSwift,
    response=SwiftResponse,
    object_name="swift",
    roles=ROOT,
    event="IMAGESTORE.CREATE",
)
def add_swift(call: Call, params: AddSwift) -> SwiftResponse:
    details = {"account": params.account, "username": params.username, "key": params.key}
    return _show(add(call, provider="Swift", name=None, url=params.url, zoneid=None, details=details))


class ListSwifts(ListParams):
    id: str | None = param("the ID of the image store", default=None, entity="ImageStore")


@command(
    "listSwifts",
    description="Lists Swift image stores",
    params=ListSwifts,
    response=SwiftResponse,
    object_name="swift",
    roles=ROOT,
)
def list_swifts(call: Call, params: ListSwifts) -> tuple[int, list[SwiftResponse]]:
    statement = select(ImageStore).where(ImageStore.removed.is_(None), ImageStore.provider == "Swift")
    if params.id is not None:
        statement = statement.where(ImageStore.id == call.lookup(ImageStore, params.id).id)
    statement = statement.order_by(ImageStore.created, ImageStore.id)
    return listing.fetch(call, statement, params, lambda rows: [_show(row) for row in rows])
