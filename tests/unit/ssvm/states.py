"""Documents for tests of an SSVM."""

from __future__ import annotations

from typing import Any

from ssvm.document import SsvmState

Raw = dict[str, Any]
EXPIRES = "2026-11-24T15:00:00Z"


def job(kind: str = "download", **more: Any) -> Raw:
    """A download, or another kind with what that needs."""
    own: dict[str, Raw] = {
        "download": {"url": "http://images.example/a.qcow2", "format": "qcow2", "size_limit": 1 << 30},
        "upload": {"token_hash": "0" * 64, "expires": EXPIRES, "format": "qcow2", "size_limit": 1 << 30},
        "copy": {
            "url": "https://203.0.113.11:8443/peer/link-1",
            "peer": "s-2",
            "checksum": f"sha256:{'0' * 64}",
            "size": 4096,
            "format": "qcow2",
        },
        "convert": {"source_store": "primary", "source_path": "volumes/v1", "format": "qcow2"},
        "delete": {},
    }
    return {"kind": kind, "id": "job-1", "store": "primary", "path": "template/a.qcow2", **own[kind], **more}


def small_state(**storage: Any) -> Raw:
    """An SSVM with one directory store, and more of its section."""
    nics = [
        {"name": "eth0", "mac": "02:00:00:00:00:01", "role": "control", "addresses": ["169.254.3.3/16"]},
        {"name": "eth1", "mac": "02:00:00:00:00:02", "role": "public", "addresses": ["203.0.113.10/24"]},
        {"name": "eth2", "mac": "02:00:00:00:00:03", "role": "management", "addresses": ["10.9.0.2/24"]},
    ]
    section = {"stores": [{"kind": "directory", "id": "primary", "path": "/var/lib/gatehouse/store"}], **storage}
    return {"hostname": "s-1-vm", "interfaces": {"interfaces": nics}, "storage": section}


def state(**storage: Any) -> SsvmState:
    return SsvmState.model_validate(small_state(**storage))
