"""Clouds with secondary storage, whose internet has an origin of images."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.netns.controlplane import origins
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud, connected
from tests.wait import wait_for


@contextmanager
def storing(store: str = "") -> Iterator[Cloud]:
    """A cloud that looks often at what there is to do; with a local image store ``store``, and its SSVM, if named."""
    with connected() as made:
        origins.serve(made)
        made.admin.updateConfiguration(name="secstorage.loadscan.interval", value="200")
        if store:
            made.admin.addImageStore(provider="Local", name=store, zoneid=zone(made))
            wait_for(lambda: ssvms(made, "Running"), 60, "the secondary storage VM")
        yield made


def zone(cloud: Cloud) -> str:
    id: str = cloud.admin.listZones()["zone"][0]["id"]
    return id


def ssvms(cloud: Cloud, state: str | None = None) -> list[Answer]:
    found = cloud.admin.listSystemVms(systemvmtype="secondarystoragevm").get("systemvm", [])
    return [one for one in found if state in (None, one["state"])]


def trust(cloud: Cloud) -> str:
    """The installation's authority, at the internet's machine."""
    text = (cloud.data / "pki/authority.pem").read_text()
    certificate = text[text.index("-----BEGIN CERTIFICATE") :]
    argv = cloud.instances.command(INTERNET, ["tee", "/root/ca.pem"])
    subprocess.run(argv, input=certificate.encode(), stdout=subprocess.DEVNULL, check=True)
    return "/root/ca.pem"


def curl(cloud: Cloud, *arguments: str) -> str:
    return cloud.run(INTERNET, ["curl", "-sS", "--cacert", trust(cloud), "-m", "30", *arguments], check=False).stdout
