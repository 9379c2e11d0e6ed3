"""The image's files: formats, checksums, manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from appliance.run import run
from tools.image import build, disk


def test_every_format_has_the_same_disk(image: Path, tmp_path: Path) -> None:
    for name in (image.name, "manifest.json"):
        shutil.copy(image.with_name(name), tmp_path)
    made = build.image(tmp_path, tuple(disk.FORMATS))
    for form, suffix in disk.FORMATS.items():
        run(
            ["qemu-img", "compare", "-f", "qcow2", "-F", form, str(made), str(made.with_suffix(f".{suffix}"))],
            timeout=120,
        )
    checked = run(["sh", "-c", 'cd "$1" && sha256sum --check SHA256SUMS', "sh", str(tmp_path)], timeout=120).stdout
    assert checked.count(": OK\n") == len(disk.FORMATS) + 1


def test_the_manifest_tells_what_is_in_it(image: Path) -> None:
    manifest = json.loads(image.with_name("manifest.json").read_text())
    packages = {package["name"]: package["version"] for package in manifest["packages"]}
    assert {"systemd", "nftables", "dnsmasq-base", "haproxy", "charon-systemd"} <= packages.keys()
    assert not packages.keys() & {"gcc", "apt", "dpkg", "dbus"}
    assert {"pydantic", "cryptography"} <= {package["name"] for package in manifest["python"]}
    assert manifest["bytes"]["qcow2"] == image.stat().st_size <= 200_000_000
