"""ISOs: images of discs, kept and handed out like templates (guide: chapter 12)."""

from __future__ import annotations

from controlplane.api import templating
from controlplane.api.call import Call
from controlplane.api.command import Async, Params, command, param
from controlplane.api.templating import ChangedImage, ListImages, NewImage
from controlplane.api.views.templates import TemplateResponse
from controlplane.errors import ParameterError
from controlplane.templates import rows
from controlplane.templates.progress import ISO


class RegisterIso(NewImage):
    url: str = param("where it is downloaded from, by HTTP or HTTPS", length=2048)
    bootable: bool = param("whether a machine can start from it", default=True)
    directdownload: bool = param("must be false", default=False)


@command(
    "registerIso",
    description="Has an ISO downloaded to the secondary storage of a zone",
    params=RegisterIso,
    response=TemplateResponse,
    object_name="iso",
    event="ISO.CREATE",
)
def register_iso(call: Call, params: RegisterIso) -> tuple[int, list[TemplateResponse]]:
    if params.bootable and params.ostypeid is None:
        raise ParameterError("ostypeid: a bootable ISO needs one; see listOsTypes")
    if params.directdownload:
        raise ParameterError("directdownload must be false: ISOs are kept in secondary storage")
    url = rows.check_url(params.url)
    zones = templating.zones_of(call, params.zoneid)
    wish = templating.wish_of(call, params, zones, format=ISO, hypervisor="", url=url)
    iso = rows.create(call.session, wish)
    iso.bootable = params.bootable
    return templating.begin(call, iso, zones)


class ListIsos(ListImages):
    isofilter: str = param(
        "possible values are featured, self, selfexecutable, sharedexecutable, executable, community and all (for "
        "administrators); selfexecutable unless given",
        default="selfexecutable",
        choices=templating.FILTERS,
    )
    bootable: bool | None = param("those that a machine can start from, or the others", default=None)
    isready: bool | None = param("those that are ready, or the others", default=None)
    ispublic: bool | None = param("those that everybody may use, or the others", default=None)


@command(
    "listIsos",
    description="Lists ISOs",
    params=ListIsos,
    response=TemplateResponse,
    object_name="iso",
)
def list_isos(call: Call, params: ListIsos) -> tuple[int, list[TemplateResponse]]:
    return templating.fetch(
        call,
        params,
        params.isofilter,
        iso=True,
        ready=params.isready,
        keep=lambda entry: params.bootable in (None, entry.bootable) and params.ispublic in (None, entry.ispublic),
    )


@command(
    "updateIso",
    description="Changes an ISO's name, text and OS type",
    params=ChangedImage,
    response=TemplateResponse,
    object_name="iso",
    event="ISO.UPDATE",
)
def update_iso(call: Call, params: ChangedImage) -> TemplateResponse:
    row = templating.own(call, params.id, iso=True)
    templating.change(call, row, params)
    return templating.show_one(call, row)


class DeleteIso(Params):
    id: str = param("the ID of the ISO", entity="Iso")
    zoneid: str | None = param("the zone to delete it from, all unless given", default=None, entity="Zone")


@command(
    "deleteIso",
    description="Deletes an ISO from a zone or all of them",
    params=DeleteIso,
    is_async=True,
    event="ISO.DELETE",
)
def delete_iso(call: Call, params: DeleteIso) -> Async:
    return templating.delete(call, params.id, params.zoneid, iso=True)
