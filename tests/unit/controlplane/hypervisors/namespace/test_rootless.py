from __future__ import annotations

from controlplane.hypervisors.namespace.rootless import has_range


def test_an_entry_names_the_user_or_its_number() -> None:
    text = "alice:100000:65536\n1001:165536:65536\n"
    assert has_range(text, "alice", 1000)
    assert has_range(text, "bob", 1001)
    assert not has_range(text, "ali", 100)
    assert not has_range("", "alice", 1000)
