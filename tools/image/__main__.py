"""``python -m tools.image``: the image in build/image, built when its inputs changed. See ``--help``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from appliance.errors import GatehouseError
from tools.image import build, disk, inputs

FOLDER = inputs.REPOSITORY / "build/image"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.image", description=__doc__)
    parser.add_argument("--formats", default="qcow2", help=f"with commas between; known: {', '.join(disk.FORMATS)}")
    parser.add_argument("--force", action="store_true", help="build although nothing changed, for newer packages")
    parser.add_argument("--twice", action="store_true", help="build twice and compare the bytes")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    formats = [name for name in options.formats.replace(" ", ",").split(",") if name]
    if unknown := set(formats) - disk.FORMATS.keys():
        parser.error(f"unknown format {', '.join(sorted(unknown))}; known are {', '.join(disk.FORMATS)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        if options.twice:
            different = build.same_twice(options.folder)
            print(f"two builds differ in: {', '.join(different)}" if different else "two builds gave the same bytes")
            return 1 if different else 0
        path = build.image(options.folder, formats, force=options.force)
    except (GatehouseError, OSError) as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    manifest = json.loads((options.folder / "manifest.json").read_text())
    print(f"{path}: {manifest['bytes']['qcow2'] / 1e6:.1f} MB, {len(manifest['packages'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
