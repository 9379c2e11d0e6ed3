"""Profiles as the programs that read them would: parsed, with everything in its place and no password."""

from __future__ import annotations

import base64
import json
import plistlib
import re
import uuid
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from controlplane.pki import Authority
from controlplane.vpnprofiles.clients import AUTHORITIES, PROFILES
from controlplane.vpnprofiles.model import Server

ID = "5f0c2b9e-8f0b-4d35-9f7e-2d5a8c1f0a11"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    return Server(
        id=ID,
        # what somebody could call a network to break out of a format's quotes
        network_name="Web & 'more'\u2019 \"x\" `$(1)` <b>\n[vpn] {é}",
        address="203.0.113.9",
        identity="vpn.example.org",
        psk="abcDEF234567",
        networks=("10.1.1.0/24", "10.1.9.0/24"),
        authority=authority.certificate.decode(),
        username="ann",
    )


def _keyfile(text: str) -> ConfigParser:
    parsed = ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    return parsed


def _plist(server: Server, protocol: str) -> dict[str, Any]:
    parsed: dict[str, Any] = plistlib.loads(PROFILES["apple", protocol](server).content.encode())
    assert (parsed["PayloadType"], parsed["PayloadVersion"]) == ("Configuration", 1)
    payloads = {payload["PayloadType"]: payload for payload in parsed["PayloadContent"]}
    parts = [parsed, *parsed["PayloadContent"]]
    assert len({uuid.UUID(part["PayloadUUID"]) for part in parts}) == len(parts)
    assert len({part["PayloadIdentifier"] for part in parts}) == len(parts)
    return payloads


def test_names_break_no_format(server: Server) -> None:
    assert server.title == "Web more x 1 b vpn é 203.0.113.9"
    assert server.slug == "web-more-x-1-b-vpn-203-0-113-9"
    assert replace(server, network_name="中文").slug == "vpn-203-0-113-9"


def test_apple_ikev2(server: Server) -> None:
    payloads = _plist(server, "ikev2")
    root = x509.load_der_x509_certificate(payloads["com.apple.security.root"]["PayloadContent"])
    vpn = payloads["com.apple.vpn.managed"]
    settings = vpn["IKEv2"]
    assert vpn["VPNType"] == "IKEv2"
    assert (settings["RemoteAddress"], settings["RemoteIdentifier"]) == ("vpn.example.org", "vpn.example.org")
    # of these two together is EAP with nothing else of the client
    assert (settings["AuthenticationMethod"], settings["ExtendedAuthEnabled"]) == ("None", 1)
    assert (settings["AuthName"], settings["LocalIdentifier"]) == ("ann", "ann")
    assert root.subject.rfc4514_string() == f"CN={settings['ServerCertificateIssuerCommonName']}"
    assert "AuthPassword" not in settings


def test_apple_l2tp(server: Server) -> None:
    vpn = _plist(server, "l2tp")["com.apple.vpn.managed"]
    assert vpn["VPNType"] == "L2TP"
    assert vpn["PPP"] == {"CommRemoteAddress": "203.0.113.9", "AuthName": "ann"}
    assert vpn["IPSec"] == {"AuthenticationMethod": "SharedSecret", "SharedSecret": b"abcDEF234567"}
    assert vpn["IPv4"] == {"OverridePrimary": 0}


def test_android(server: Server) -> None:
    parsed = json.loads(PROFILES["android", "ikev2"](server).content)
    uuid.UUID(parsed["uuid"])
    assert (parsed["type"], parsed["remote"]["addr"]) == ("ikev2-eap", "vpn.example.org")
    x509.load_der_x509_certificate(base64.b64decode(parsed["remote"]["cert"]))
    assert parsed["local"] == {"eap_id": "ann"}
    assert parsed["split-tunneling"] == {"subnets": ["10.1.1.0/24", "10.1.9.0/24"]}


def test_networkmanager_ikev2(server: Server) -> None:
    parsed = _keyfile(PROFILES["networkmanager", "ikev2"](server).content)
    vpn = parsed["vpn"]
    assert parsed["connection"]["type"] == "vpn"
    assert vpn["service-type"] == "org.freedesktop.NetworkManager.strongswan"
    assert (vpn["address"], vpn["remote-identity"]) == ("vpn.example.org", "vpn.example.org")
    assert (vpn["method"], vpn["user"], vpn["virtual"]) == ("eap", "ann", "yes")
    assert vpn["certificate"] == f"{AUTHORITIES}/{server.authority_file}"
    assert vpn["remote-ts"] == "10.1.1.0/24;10.1.9.0/24"
    assert parsed["ipv4"]["never-default"] == "true"


def test_networkmanager_l2tp(server: Server) -> None:
    parsed = _keyfile(PROFILES["networkmanager", "l2tp"](server).content)
    vpn = parsed["vpn"]
    assert vpn["service-type"] == "org.freedesktop.NetworkManager.l2tp"
    assert (vpn["gateway"], vpn["user"], vpn["ipsec-enabled"]) == ("203.0.113.9", "ann", "yes")
    assert (vpn["machine-auth-type"], parsed["vpn-secrets"]["ipsec-psk"]) == ("psk", "abcDEF234567")
    assert (parsed["ipv4"]["route1"], parsed["ipv4"]["route2"]) == ("10.1.1.0/24", "10.1.9.0/24")


def test_windows_ikev2(server: Server) -> None:
    text = PROFILES["windows", "ikev2"](server).content
    assert "-ServerAddress 'vpn.example.org' -TunnelType Ikev2 -AuthenticationMethod Eap" in text
    assert text.count("Add-VpnConnectionRoute -ConnectionName $name -DestinationPrefix") == 2
    [certificate] = re.findall(r"@'\n(.*?)\n'@\n", text, re.DOTALL)
    assert certificate == server.authority.strip()
    _quotes_close(text)


def test_windows_l2tp(server: Server) -> None:
    text = PROFILES["windows", "l2tp"](server).content
    assert "-ServerAddress '203.0.113.9' -TunnelType L2tp -L2tpPsk 'abcDEF234567'" in text
    _quotes_close(text)


def _quotes_close(text: str) -> None:
    """Every line has its single quotes in pairs, and none of those that PowerShell takes for quotes too."""
    assert text.startswith("\ufeff")
    assert not re.search("[\u2018-\u201f]", text)
    here_document = re.compile(r"@'\n.*?\n'@\n", re.DOTALL)
    lines = [line for line in here_document.sub("\n", text).splitlines() if not line.startswith("#")]
    assert all(line.count("'") % 2 == 0 for line in lines)


def test_strongswan(server: Server) -> None:
    lines = [line.strip() for line in PROFILES["strongswan", "ikev2"](server).content.splitlines()]
    settings = [line for line in lines if not line.startswith("#")]
    for line in (
        "remote_addrs = vpn.example.org",
        "eap_id = ann",
        "id = vpn.example.org",
        f"cacerts = {server.authority_file}",
        "remote_ts = 10.1.1.0/24,10.1.9.0/24",
    ):
        assert line in settings
    assert sum(line.endswith("{") for line in settings) == settings.count("}")


def test_without_a_user(server: Server) -> None:
    """The client asks for the name; a file that must have one says where it goes."""
    nobody = replace(server, username=None)
    assert "AuthName" not in PROFILES["apple", "ikev2"](nobody).content
    assert "AuthName" not in PROFILES["apple", "l2tp"](nobody).content
    assert "local" not in json.loads(PROFILES["android", "ikev2"](nobody).content)
    for protocol in ("ikev2", "l2tp"):
        assert "user" not in _keyfile(PROFILES["networkmanager", protocol](nobody).content)["vpn"]
    assert "eap_id = NAME" in PROFILES["strongswan", "ikev2"](nobody).content


@pytest.mark.parametrize("kind", PROFILES)
def test_a_newer_profile_takes_the_place_of_an_older_one(server: Server, kind: tuple[str, str]) -> None:
    first, second = PROFILES[kind](server), PROFILES[kind](server)
    assert first == second
    assert Path(first.filename).name == first.filename
