"""cloud-init with its CloudStack data source, as Debian ships it, in a guest: user data, host name, key, password."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from tests.netns.lab import Lab
from tests.netns.router.guests import Network

pytestmark = pytest.mark.any_hypervisor

PASSWORD = "S3cret:&%word"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbAQEXMPL1XJ0Yk1ZxkuYNJyq0yN3ZoF0S8mJ5P7dPq tenant@example"
SCRIPT = '#!/bin/sh\necho "$(hostname)" >/run/user-data-ran\n'
CONFIG = """\
datasource_list: [ CloudStack ]
locale: false
"""
# perl is on every Debian; Python has no crypt(3) from 3.13 on
CHECK_PASSWORD = (
    'my ($have) = map { (split /:/)[1] } grep { /^debian:/ } do { open my $f, "<", "/etc/shadow"; <$f> }; '
    "exit(crypt($ARGV[0], $have) ne $have)"
)


def test_cloud_init_sets_a_guest_up(lab: Lab) -> None:
    network = Network(lab)
    network.state["metadata"].update(
        guests=[
            {
                "id": "vm-0",
                "address": network.address(0),
                "items": {
                    "service-offering": "small",
                    "availability-zone": "zone1",
                    "local-ipv4": network.address(0),
                    # not what DHCP says, to tell who set it
                    "local-hostname": "web0",
                    "instance-id": "0f0e0d0c-0000-4000-8000-000000000001",
                    "vm-id": "0f0e0d0c-0000-4000-8000-000000000001",
                    "public-keys": KEY,
                    "cloud-identifier": "CloudStack-{0f0e0d0c-0000-4000-8000-00000000000f}",
                },
                "user_data": base64.b64encode(gzip.compress(SCRIPT.encode())).decode(),
            }
        ]
    )
    network.state["passwords"]["pending"] = [{"id": "reset-1", "address": network.address(0), "password": PASSWORD}]
    network.push()
    guest = network.guest(0)
    guest.write("/etc/cloud/cloud.cfg.d/99_datasource.cfg", CONFIG)
    guest.run(["cloud-init", "init", "--local"], timeout=60)
    guest.dhcp()
    for stage in (["init"], ["modules", "--mode=config"], ["modules", "--mode=final"]):
        guest.run(["cloud-init", *stage], timeout=120)
    log = guest.read("/var/log/cloud-init.log")
    result = json.loads(guest.read("/run/cloud-init/result.json"))["v1"]
    assert result == {"datasource": "DataSourceCloudStack", "errors": []}, log
    assert guest.read("/run/user-data-ran") == "web0\n"
    assert guest.run(["hostname"]).stdout == "web0\n"
    assert KEY in guest.read("/home/debian/.ssh/authorized_keys")
    assert guest.ok(["perl", "-e", CHECK_PASSWORD, PASSWORD]), log
    assert not guest.ok(["perl", "-e", CHECK_PASSWORD, "another"])
    assert network.router.status().reports["password"] == {"fetched": ["reset-1"]}
