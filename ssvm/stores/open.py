"""A store of a document, ready for use."""

from __future__ import annotations

from pathlib import Path

from ssvm.services.storage.model.stores import DirectoryStore, NfsStore, S3Store
from ssvm.services.storage.model.stores import Store as Wanted
from ssvm.stores.base import Store
from ssvm.stores.directory import Directory, Export


def open_store(wanted: Wanted, staging: Path, nfs: Path) -> Store:
    """``staging``: a directory of the appliance, for stores that are elsewhere; ``nfs``: where exports are mounted."""
    if isinstance(wanted, DirectoryStore):
        return Directory(Path(wanted.path))
    if isinstance(wanted, NfsStore):
        return Export(wanted, nfs / wanted.id)
    # each needs a library that takes some 30 MB, which an SSVM without such stores does without
    if isinstance(wanted, S3Store):
        from ssvm.stores.s3 import S3

        return S3(wanted, staging)
    from ssvm.stores.swift import Swift

    return Swift(wanted, staging)
