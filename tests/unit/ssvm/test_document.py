"""What an SSVM's document may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from ssvm.document import SsvmDocument
from tests.unit.ssvm.states import EXPIRES, job, small_state, state

LINK = {"id": "l", "store": "primary", "path": "a", "expires": EXPIRES, "token_hash": "0" * 64}
PEER = {"certificate": "CERTIFICATE", "key": "SECRET", "ca": "CA"}


def test_every_kind_of_job() -> None:
    kinds = ("download", "upload", "copy", "convert", "delete")
    jobs = [job(kind, id=kind, path=kind) for kind in kinds]
    section = state(jobs=jobs, peer=PEER).storage
    assert section is not None
    assert tuple(one.kind for one in section.jobs) == kinds


def test_secrets_do_not_show_but_travel() -> None:
    stores = [
        {
            "kind": "s3",
            "id": "a",
            "endpoint": "http://10.0.0.1:80",
            "bucket": "b",
            "access_key": "k",
            "secret": "SECRET",
        },
        {"kind": "swift", "id": "b", "endpoint": "http://x/auth", "container": "c", "user": "a:u", "secret": "SECRET"},
    ]
    made = state(stores=stores, peer=PEER)
    assert "SECRET" not in repr(made)
    assert made.model_dump_json().count("SECRET") == 3


@pytest.mark.parametrize(
    ("section", "field", "message"),
    [
        ({"jobs": [job(url="ftp://x/y")]}, "jobs.0.download.url", "offer it by HTTP"),
        ({"jobs": [job(url="http://u:p@x/y")]}, "jobs.0.download.url", "user name or password"),
        ({"jobs": [job(url="http:///y")]}, "jobs.0.download.url", "with a host"),
        ({"jobs": [job(url="http://x/y z")]}, "jobs.0.download.url", "in ASCII"),
        ({"jobs": [job(checksum="md5:00")]}, "jobs.0.download.checksum", "an algorithm of md5"),
        ({"jobs": [job(path="../x")]}, "jobs.0.download.path", "none beginning with '.'"),
        ({"jobs": [job(path="a//x")]}, "jobs.0.download.path", "none beginning with '.'"),
        ({"jobs": [job(store="other")]}, "jobs.0.store", "no store other"),
        ({"jobs": [job(format="iso", convert="qcow2")]}, "jobs.0.download.convert", "kept as it is"),
        ({"jobs": [job(), job(id="job-2")]}, "jobs.1.path", "another job"),
        ({"jobs": [job(), job(path="b")]}, "jobs.1.id", "given twice"),
        ({"jobs": [job("copy")]}, "jobs.0", "certificate in peer"),
        ({"jobs": [job("convert", source_store="x")]}, "jobs.0.source_store", "no store x"),
        ({"links": [{**LINK, "peer": "s-2"}]}, "links.0", "either token_hash or peer"),
        ({"links": [{**LINK, "store": "x"}]}, "links.0.store", "no store x"),
        ({"links": [{**LINK, "name": "../x"}]}, "links.0.name", "pattern"),
        ({"stores": [{"id": "a", "kind": "directory", "path": "/a/../b"}]}, "stores.0.directory.path", "absolute"),
    ],
)
def test_refused(section: dict[str, Any], field: str, message: str) -> None:
    raw = {"kind": "ssvm", "id": "s-1", "generation": 1, "state": small_state(**section)}
    with pytest.raises(ValidationError) as caught:
        SsvmDocument.model_validate(raw)
    told = explain(caught.value, raw)
    assert any(name == f"storage.{field}" and message in text for name, text in told), told


@pytest.mark.parametrize("name", ["eth0", "eth9"])
def test_rates_are_of_interfaces_that_are_there(name: str) -> None:
    shaping = {"interfaces": [{"interface": name, "mbit": 100}]}
    raw = {"kind": "ssvm", "id": "s-1", "generation": 1, "state": {**small_state(), "shaping": shaping}}
    with pytest.raises(ValidationError) as caught:
        SsvmDocument.model_validate(raw)
    assert [field for field, _ in explain(caught.value, raw)] == ["shaping.interfaces.0.interface"]
