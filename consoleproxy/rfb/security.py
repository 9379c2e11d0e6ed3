"""The handshake with a VNC server, up to where it has let us in (RFC 6143 section 7.1; VeNCrypt: the RFB protocol of
the community, "Security types", https://github.com/rfbproto/rfbproto/blob/master/rfbproto.rst).

Only what the target says is agreed to: a server, or who sits between, cannot talk the proxy down to less.
"""

from __future__ import annotations

import re
import ssl
import struct
from typing import Protocol

from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.vncauth import CHALLENGE, response
from consoleproxy.services.console.model import VncTarget

NONE, VNC, VENCRYPT = 1, 2, 19
#: VeNCrypt subtypes: TLS with an X.509 certificate, and in it nothing, VNC authentication, user name and password
X509_NONE, X509_VNC, X509_PLAIN = 260, 261, 262
_NAMES = {NONE: "none", VNC: "VNC authentication", VENCRYPT: "VeNCrypt", 5: "RA2", 16: "Tight", 18: "TLS", 30: "ARD"}
_VENCRYPT_VERSION = b"\0\2"
#: octets of a server's reason that are read
_MOST_REASON = 4096


class Stream(Protocol):
    """A connection to the server while the handshake lasts."""

    async def read(self, size: int) -> bytes:
        """Exactly ``size`` octets. Raises EOFError."""

    def write(self, data: bytes) -> None: ...

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Go on inside TLS. Raises ssl.SSLError, ssl.CertificateError and OSError."""


async def enter(stream: Stream, target: VncTarget) -> None:
    """Be let in, so that the next octet to send is ClientInit. Raises RfbError, EOFError and OSError."""
    version = await _agree_version(stream)
    wanted = {"none": NONE, "vnc": VNC, "vencrypt": VENCRYPT}[target.security]
    if version == 3:
        (offered,) = struct.unpack("!I", await stream.read(4))
        if offered == 0:
            raise RfbError(f"the server refuses: {await _reason(stream)}")
        _insist(wanted, [offered])
    else:
        (number,) = await stream.read(1)
        if number == 0:
            raise RfbError(f"the server refuses: {await _reason(stream)}")
        _insist(wanted, list(await stream.read(number)))
        stream.write(bytes([wanted]))
    if wanted == VENCRYPT:
        await _vencrypt(stream, target)
    elif wanted == VNC:
        await _vnc(stream, target)
    if wanted == NONE and version < 8:
        return  # before 3.8 there is no result without authentication
    await _result(stream, version)


async def _agree_version(stream: Stream) -> int:
    """3, 7 or 8."""
    line = await stream.read(12)
    found = re.fullmatch(rb"RFB (\d{3})\.(\d{3})\n", line)
    if found is None:
        raise RfbError(f"this is no VNC server: it greets with {line!r}")
    theirs = (int(found[1]), int(found[2]))
    # section 7.1.1: what is not 3.7 or 3.8 is taken for 3.3; later ones speak 3.8 too
    ours = 8 if theirs >= (3, 8) else 7 if theirs == (3, 7) else 3
    stream.write(b"RFB 003.%03d\n" % ours)
    return ours


def _insist(wanted: int, offered: list[int]) -> None:
    if wanted not in offered:
        names = ", ".join(_NAMES.get(one, str(one)) for one in offered)
        raise RfbError(f"the server offers {names}, and not {_NAMES[wanted]}, which its target says")


async def _reason(stream: Stream) -> str:
    (length,) = struct.unpack("!I", await stream.read(4))
    return repr((await stream.read(min(length, _MOST_REASON))).decode(errors="replace"))


async def _result(stream: Stream, version: int) -> None:
    (result,) = struct.unpack("!I", await stream.read(4))
    if result != 0:
        raise RfbError(f"the server lets nobody in: {await _reason(stream) if version == 8 else f'result {result}'}")


async def _vnc(stream: Stream, target: VncTarget) -> None:
    assert target.password is not None
    stream.write(response(target.password.get_secret_value(), await stream.read(CHALLENGE)))


async def _vencrypt(stream: Stream, target: VncTarget) -> None:
    theirs = await stream.read(2)
    if theirs < _VENCRYPT_VERSION:
        raise RfbError(f"the server speaks VeNCrypt {theirs[0]}.{theirs[1]}; at least 0.2 is needed")
    stream.write(_VENCRYPT_VERSION)
    (refused,) = await stream.read(1)
    if refused:
        raise RfbError("the server does not agree to VeNCrypt 0.2")
    (number,) = await stream.read(1)
    offered = struct.unpack(f"!{number}I", await stream.read(4 * number))
    wanted = X509_PLAIN if target.username else X509_VNC if target.password else X509_NONE
    if wanted not in offered:
        raise RfbError(f"the server offers VeNCrypt subtypes {list(offered)}, and not {wanted}, which its target says")
    stream.write(struct.pack("!I", wanted))
    (agreed,) = await stream.read(1)
    if not agreed:
        raise RfbError(f"the server takes VeNCrypt subtype {wanted} back")
    name = target.server_name or str(target.host)
    try:
        await stream.start_tls(tls_context(target), name)
    except ssl.SSLCertVerificationError as error:
        raise RfbError(f"the server's certificate is not one for {name}: {error.verify_message}") from error
    except (ssl.SSLError, ValueError) as error:
        raise RfbError(f"no TLS with the server: {error}") from error
    if wanted == X509_VNC:
        await _vnc(stream, target)
    elif wanted == X509_PLAIN:
        assert target.username is not None
        assert target.password is not None
        user, password = target.username.encode(), target.password.get_secret_value().encode()
        stream.write(struct.pack("!II", len(user), len(password)) + user + password)


def tls_context(target: VncTarget) -> ssl.SSLContext:
    """Trusts the target's CA and nothing else. Raises ssl.SSLError for a CA that is not PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cadata=target.ca)
    return context
