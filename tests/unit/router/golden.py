"""Golden tests: what a service renders is compared, line by line, with a file beside the test.

After a wanted change, look at what the test prints and put it into the file.
"""

from __future__ import annotations

from pathlib import Path

from appliance.netfilter.ruleset import Ruleset
from appliance.netfilter.transaction import replacement


def assert_ruleset(ruleset: Ruleset, golden: Path) -> None:
    """The ruleset, as the transaction that loads it, is what ``golden`` says."""
    text = replacement(ruleset)
    assert text == golden.read_text("utf-8"), f"rendered, where {golden.name} differs:\n{text}"
