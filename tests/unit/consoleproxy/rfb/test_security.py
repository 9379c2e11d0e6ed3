"""The handshake with a VNC server: every version and kind of security, and servers that are hostile."""

from __future__ import annotations

import asyncio
import ssl
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.security import enter
from consoleproxy.rfb.vncauth import response
from consoleproxy.services.console.model import VncTarget
from tests.certificates import self_signed

CA, _ = self_signed("vnc.example")
CHALLENGE = bytes(range(16))
OK, FAILED = struct.pack("!I", 0), struct.pack("!I", 1)
PLAIN = {"security": "vencrypt", "ca": CA, "username": "gaston", "password": "s3cret"}


class Script:
    """A server that says its lines, whatever it hears."""

    def __init__(self, said: bytes) -> None:
        self._said, self.heard, self.tls = said, b"", ""

    async def read(self, size: int) -> bytes:
        if len(self._said) < size:
            raise EOFError("the server closed the connection")
        taken, self._said = self._said[:size], self._said[size:]
        return taken

    def write(self, data: bytes) -> None:
        self.heard += data

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        self.tls = server_name
        self.heard += b"<tls>"


def handshake(said: bytes, **target: Any) -> Script:
    script = Script(said)
    asyncio.run(enter(script, VncTarget.model_validate({"host": "10.9.0.1", "port": 5900, **target})))
    assert script._said == b"", "everything was read"
    return script


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"RFB 003.003\n" + struct.pack("!I", 1), b"RFB 003.003\n"),
        (b"RFB 003.005\n" + struct.pack("!I", 1), b"RFB 003.003\n"),
        (b"RFB 003.007\n" + b"\2\5\1", b"RFB 003.007\n\1"),
        (b"RFB 003.008\n" + b"\2\2\1" + OK, b"RFB 003.008\n\1"),
        (b"RFB 003.889\n" + b"\1\1" + OK, b"RFB 003.008\n\1"),
        (b"RFB 004.001\n" + b"\1\1" + OK, b"RFB 003.008\n\1"),
    ],
)
def test_none(said: bytes, heard: bytes) -> None:
    assert handshake(said).heard == heard


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"RFB 003.003\n" + struct.pack("!I", 2) + CHALLENGE + OK, b"RFB 003.003\n"),
        (b"RFB 003.007\n" + b"\1\2" + CHALLENGE + OK, b"RFB 003.007\n\2"),
        (b"RFB 003.008\n" + b"\2\1\2" + CHALLENGE + OK, b"RFB 003.008\n\2"),
    ],
)
def test_vnc_authentication(said: bytes, heard: bytes) -> None:
    done = handshake(said, security="vnc", password="s3cret")
    assert done.heard == heard + response("s3cret", CHALLENGE)


def vencrypt(*subtypes: int) -> bytes:
    offered = struct.pack(f"!B{len(subtypes)}I", len(subtypes), *subtypes)
    return b"RFB 003.008\n" + b"\1\x13" + b"\0\2" + b"\0" + offered + b"\1"


CHOSE = b"RFB 003.008\n\x13\0\2"


def test_vencrypt() -> None:
    done = handshake(vencrypt(256, 260, 262) + OK, security="vencrypt", ca=CA)
    assert (done.heard, done.tls) == (CHOSE + struct.pack("!I", 260) + b"<tls>", "10.9.0.1")
    done = handshake(
        vencrypt(261) + CHALLENGE + OK, security="vencrypt", ca=CA, password="x", server_name="vnc.example"
    )
    assert done.heard == CHOSE + struct.pack("!I", 261) + b"<tls>" + response("x", CHALLENGE)
    assert done.tls == "vnc.example"
    done = handshake(vencrypt(262) + OK, **PLAIN)
    assert done.heard == CHOSE + struct.pack("!I", 262) + b"<tls>" + struct.pack("!II", 6, 6) + b"gastons3cret"


@pytest.mark.parametrize(
    ("said", "target", "reason"),
    [
        (b"SSH-2.0-Open", {}, "this is no VNC server"),
        (b"RFB 003.008\n\0" + struct.pack("!I", 8) + b"too many", {}, "refuses: 'too many'"),
        (b"RFB 003.003\n" + struct.pack("!II", 0, 4) + b"busy", {}, "refuses: 'busy'"),
        (b"RFB 003.008\n\1\2", {}, "offers VNC authentication, and not none"),
        (b"RFB 003.003\n" + struct.pack("!I", 2), {}, "offers VNC authentication, and not none"),
        # somebody between them offers less than there was
        (b"RFB 003.008\n\1\1", {"security": "vnc", "password": "x"}, "offers none, and not VNC authentication"),
        (b"RFB 003.008\n\2\1\2", PLAIN, "offers none, VNC authentication, and not VeNCrypt"),
        (vencrypt(256, 257, 259), PLAIN, "offers VeNCrypt subtypes [256, 257, 259], and not 262"),
        (b"RFB 003.008\n\1\x13\0\1", PLAIN, "speaks VeNCrypt 0.1"),
        (vencrypt(262)[:-1] + b"\0", PLAIN, "takes VeNCrypt subtype 262 back"),
        (
            b"RFB 003.008\n\1\2" + CHALLENGE + FAILED + struct.pack("!I", 3) + b"bad",
            {"security": "vnc", "password": "x"},
            "lets nobody in: 'bad'",
        ),
        (b"RFB 003.007\n\1\2" + CHALLENGE + FAILED, {"security": "vnc", "password": "x"}, "lets nobody in: result 1"),
    ],
)
def test_refused(said: bytes, target: dict[str, Any], reason: str) -> None:
    with pytest.raises(RfbError) as caught:
        handshake(said, **target)
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


@given(
    st.sampled_from([b"", b"RFB 003.008\n", b"RFB 003.008\n\1\x13\0\2\0", b"RFB 003.003\n"]),
    st.binary(max_size=200),
    st.sampled_from([{}, {"security": "vnc", "password": "x"}, PLAIN]),
)
def test_whatever_a_server_says(head: bytes, said: bytes, target: dict[str, Any]) -> None:
    script = Script(head + said)
    try:
        asyncio.run(enter(script, VncTarget.model_validate({"host": "10.9.0.1", "port": 5900, **target})))
    except (RfbError, EOFError):
        return
    # let in only by the one kind of security that was asked for
    assert script.heard.count(b"<tls>") == (target is PLAIN)


def test_the_response() -> None:
    # what makes it VNC's: only eight characters count, and each octet's bits are turned round
    assert response("passwordX", CHALLENGE) == response("password", CHALLENGE)
    assert response("", CHALLENGE) == response("\0\0", CHALLENGE)
    # DES's known answer: key 0123456789abcdef, block "Now is t" (FIPS 81); the key's octets turned round
    key = bytes(int(f"{octet:08b}"[::-1], 2) for octet in bytes.fromhex("0123456789abcdef"))
    assert response(key.decode("latin-1"), b"Now is tNow is t") == bytes.fromhex("3fa40e8a984d48153fa40e8a984d4815")
