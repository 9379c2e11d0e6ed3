"""Sockets and TLS towards browsers and other clients of the web."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

#: TLS 1.3's suites are chosen by OpenSSL; for 1.2 those with forward secrecy and authenticated encryption
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
#: <linux/in.h>: bind to an address that is not there yet
IP_FREEBIND = 15
#: milliseconds for which a client's kernel may leave what was sent unanswered (tcp(7))
USER_TIMEOUT = 60_000


def server_context() -> ssl.SSLContext:
    """A context for browsers, without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def front(newest: Callable[[], ssl.SSLContext | None]) -> ssl.SSLContext:
    """A context that passes each handshake on to the ``newest`` certificate's."""
    context = server_context()

    def choose(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if (wanted := newest()) is not None:
            connection.context = wanted

    context.sni_callback = choose  # called without a name too
    return context


def listening(address: str, port: int) -> socket.socket:
    """A bound socket whose connections keep small packets moving and notice clients that are gone. Raises OSError."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    # these are inherited by the connections
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT)
    try:
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
