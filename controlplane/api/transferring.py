"""What commands about images on their way have in common: links to download from, and places to upload to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from controlplane.api.call import Call
from controlplane.api.command import Later, Response, shown
from controlplane.errors import ApiError
from controlplane.imagestores.transfers import Upload

#: seconds for an SSVM to know an upload
KNOWN = 20.0


class ExtractResponse(Response):
    id: str = shown("the id of the extracted object", ...)
    name: str = shown("the name of the extracted object", ...)
    extract_id: str = shown("the upload id of the extracted object", ..., name="extractId")
    extract_mode: str = shown("the mode of extraction", "HTTP_DOWNLOAD", name="extractMode")
    state: str = shown("the state of the extracted object", "DOWNLOAD_URL_CREATED")
    storagetype: str = shown("type of the storage", "secondary")
    url: str = shown("where it can be downloaded, until it expires; whoever knows it can", ...)
    accountid: str = shown("the account id to which the extracted object belongs", ...)
    zoneid: str = shown("zone ID the object was extracted from", ...)
    zonename: str = shown("zone name the object was extracted from", ...)
    created: datetime = shown("the time and date the object was created", ...)


class UploadResponse(Response):
    id: str = shown("the id of what is uploaded", ...)
    post_url: str = shown("where the file is to be sent by POST, once", ..., name="postURL")
    metadata: str = shown("goes into the header X-metadata", ...)
    expires: datetime = shown("until when the upload must begin; goes into X-expires", ...)
    signature: str = shown("goes into the header X-signature; whoever knows it may upload", ...)


def upload(call: Call, made: Upload, owner_id: str, give_up: Callable[[Session], None]) -> Later:
    """The answer once the SSVM knows of the upload for ``owner_id``; if it never does, ``give_up`` removes that."""
    call.after_commit(call.runtime.keep_storage)
    runtime = call.runtime

    def known() -> Response:
        try:
            runtime.reach(made.ssvm_id, made.generation, KNOWN)
        except ApiError:
            with runtime.database.transaction() as session:
                give_up(session)
            raise
        return UploadResponse(
            id=owner_id, post_url=made.url, metadata=made.job_id, expires=made.expires, signature=made.signature
        )

    return Later(known)
