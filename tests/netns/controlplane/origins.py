"""An origin of images on a cloud's internet: files that a real web server has, see tests/origin.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.netns.controlplane.cloud import INTERNET, WEB, Cloud
from tests.wait import wait_for

_SERVER = (Path(__file__).parents[2] / "origin.py").read_text()
FILES, PORT = "/srv/images", 8000


def serve(cloud: Cloud) -> None:
    """Serve ``FILES`` of the internet's machine."""
    cloud.run(INTERNET, ["mkdir", "-p", FILES])
    argv = cloud.instances.command(INTERNET, ["setsid", "-f", "python3", "-c", _SERVER, FILES, str(PORT)])
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    probe = ["bash", "-c", f"</dev/tcp/127.0.0.1/{PORT}"]
    wait_for(lambda: cloud.run(INTERNET, probe, check=False).returncode == 0, 20, "the origin")


def url(name: str) -> str:
    return f"http://{WEB}:{PORT}/{name}"


def image(cloud: Cloud, name: str, *, format: str = "qcow2", size: str = "16M", filled: str = "4M") -> str:
    """An image with ``filled`` of random content; its SHA-256."""
    path = f"{FILES}/{name}"
    script = (
        f"head -c {filled} /dev/urandom >{path}.raw && truncate -s {size} {path}.raw && "
        f"qemu-img convert -f raw -O {format} {path}.raw {path} && rm {path}.raw && sha256sum {path}"
    )
    return cloud.run(INTERNET, ["bash", "-c", script]).stdout.split()[0]
