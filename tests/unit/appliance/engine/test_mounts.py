"""Mount points as systemd names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine.mounts import Mount, definition, unit_name


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("/run/gatehouse/nfs/a", "run-gatehouse-nfs-a.mount"),
        ("/run/a-b/c.d_e:f", r"run-a\x2db-c.d_e:f.mount"),
        ("/run/ü", r"run-\xc3\xbc.mount"),
    ],
)
def test_names(where: str, name: str) -> None:
    assert unit_name(Path(where)) == name


def test_a_definition() -> None:
    text = definition(Mount("10.9.0.1:/export", Path("/run/x"), "nfs4", "vers=4.2,addr=10.9.0.1"))
    assert "What=10.9.0.1:/export\nWhere=/run/x\nType=nfs4\nOptions=vers=4.2,addr=10.9.0.1\n" in text
