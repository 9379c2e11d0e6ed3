"""The part of a file that has come so far."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ssvm.fetch.part import Part


def test_a_part_whose_writes_failed_at_last_can_be_had_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """close(2) tells of writes that an NFS server never got; the same process tries again then."""
    part, close = Part(tmp_path, "job-1"), os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        if descriptor == part.descriptor:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(OSError, match="Input/output"):
            part.close()
    Part(tmp_path, "job-1").close()
