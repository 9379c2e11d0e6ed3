"""Versions that clients see."""

from __future__ import annotations

from importlib.metadata import version

#: of this software
VERSION = version("gatehouse")

#: The CloudStack release whose API the answers follow. Clients compare it to decide what they may send.
API_VERSION = "4.20.0.0"
