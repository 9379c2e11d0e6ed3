"""Guests' ports and security groups on Debian 13's own kernel, which tracks connections through bridges by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.netns.hypervisor import test_antispoofing, test_securitygroups
from tests.vm import debian_host

REPOSITORY = Path(__file__).resolve().parents[2]
#: seconds for a machine to boot and for what takes some ten in a namespace
LONGEST = 150 * PATIENCE
TESTS = (
    test_antispoofing.test_a_guest_sends_in_its_own_name_only,
    test_securitygroups.test_members_of_a_group_come_in_and_others_do_not,
    test_securitygroups.test_a_revoked_rule_ends_what_it_had_let_in_and_nothing_else,
)


@pytest.fixture(scope="session")
def debian_kernel() -> Path:
    """Debian 13's kernel and its modules; downloaded once."""
    return debian_host.unpacked_kernel(REPOSITORY / "build/debian-kernel")


def test_members_and_running_connections(debian_kernel: Path, tmp_path: Path) -> None:
    """The same tests as on this machine's kernel, with guests that are namespaces of a virtual machine."""
    names = [f"{Path(test.__code__.co_filename).relative_to(REPOSITORY)}::{test.__name__}" for test in TESTS]
    output = debian_host.run_tests(tmp_path, debian_kernel, names, LONGEST)
    assert f"{len(names)} passed" in output
