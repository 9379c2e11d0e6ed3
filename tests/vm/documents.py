"""The document of the router that the tests of the image share."""

from __future__ import annotations

from typing import Any

from tests.documents import small_state
from tests.netns.lab import Lab


def full(lab: Lab) -> dict[str, Any]:
    """A router's state with every section in use, with MACs and a control address of this lab."""
    state = small_state()
    guest, _, public = state["interfaces"]["interfaces"]
    guest["mac"], public["mac"] = lab.mac(), lab.mac()
    guest["network"], public["network"] = "n1", "p1"
    # not in the order of the devices, so that no name is right by chance
    state["interfaces"]["interfaces"] = [public, guest, lab.control()]
    return state
