"""Appliances that cannot work."""

from __future__ import annotations

import json

from controlplane.hypervisors.base import ApplianceSpec, Nic
from tests.netns.lab import Lab


def with_role(lab: Lab, role: str) -> ApplianceSpec:
    """One whose identity names a role that the image does not have."""
    name, control = f"x-{lab.number()}", lab.control()
    credentials = lab.authority.issue(name, "router")
    identity = {
        "id": name,
        "role": role,
        "control": {"mac": control["mac"], "name": control["name"], "address": control["addresses"][0]},
    }
    files = {
        "identity.json": json.dumps(identity).encode(),
        "ca.pem": lab.authority.certificate,
        "cert.pem": credentials.certificate,
        "key.pem": credentials.key,
    }
    return ApplianceSpec(name, name, (Nic(control["mac"], "control"),), files)


def without_identity(lab: Lab) -> ApplianceSpec:
    name, mac = f"x-{lab.number()}", lab.mac()
    return ApplianceSpec(name, name, (Nic(mac, "control"),), {})
