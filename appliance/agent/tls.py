"""The agent's side of mutual TLS: its certificate, which is replaced while it runs, and who may call."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path

from appliance.errors import GatehouseError

log = logging.getLogger(__name__)

#: the name in the control plane's certificate (controlplane/pki.py)
CONTROL_PLANE = "control-plane"


class CertificateRefusedError(GatehouseError):
    """A certificate that this agent cannot serve with."""


class Certificates:
    """``ca.pem``, ``cert.pem`` and ``key.pem`` of ``directory``; read again when one of them changes."""

    def __init__(self, directory: Path, kept: Path | None = None) -> None:
        """``kept``: where an installed certificate is also written, for a directory that ends with the boot.

        Raises OSError or ssl.SSLError when they cannot be used.
        """
        self._kept = kept
        self._ca, self._certificate, self._key = (directory / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._context = self._load(self._certificate)

    def context(self) -> ssl.SSLContext:
        """The context for the next connection."""
        with self._lock:
            stamp = self._stamp()
            if stamp != self._seen:
                try:
                    self._context = self._load(self._certificate)
                    self._seen = stamp
                except (OSError, ssl.SSLError):
                    pass  # certificate and key are being replaced one by one: the old ones serve until they fit
            return self._context

    def install(self, certificate: bytes) -> None:
        """Serve with ``certificate`` (PEM) from now on, also after a restart. It must be for the key that is here.

        Raises CertificateRefusedError, and nothing has changed.
        """
        candidate = self._certificate.with_name(".cert.pem.new")
        try:
            handle = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(certificate)
                out.flush()
                os.fsync(out.fileno())
            _shake_hands(self._load(candidate), self._ca)
            candidate.replace(self._certificate)
        except (OSError, ssl.SSLError, ValueError) as error:
            candidate.unlink(missing_ok=True)
            raise CertificateRefusedError(f"certificate not taken: {error}") from error
        self._keep(certificate)

    def _keep(self, certificate: bytes) -> None:
        if self._kept is None:
            return
        temporary = self._kept.with_name(f".{self._kept.name}.new")
        try:
            temporary.write_bytes(certificate)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(self._kept)
        except OSError as error:  # it serves; after a reboot the control plane finds the older one and renews again
            log.error("the certificate is not kept over a reboot: %s", error)

    def _load(self, certificate: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self._ca)
        context.load_cert_chain(certificate, self._key)
        # a resumed session would outlive the certificate it was made with
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (about.st_mtime_ns, about.st_ino) for about in map(Path.stat, (self._ca, self._certificate, self._key))
        )


def is_control_plane(peer: dict[str, object] | None) -> bool:
    """Whether a verified peer certificate (``SSLSocket.getpeercert()``) is the control plane's: by its DNS names."""
    names = (peer or {}).get("subjectAltName", ())
    return ("DNS", CONTROL_PLANE) in names  # type: ignore[operator]


def describe(certificate: Path, key: Path, ca: Path) -> dict[str, object]:
    """What a client that trusts ``ca`` sees of a certificate (``SSLSocket.getpeercert()``).

    Raises OSError or ssl.SSLError when it is not for ``key``, not by ``ca`` or not valid now.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return _shake_hands(server, ca)


def _shake_hands(server: ssl.SSLContext, ca: Path) -> dict[str, object]:
    """Have a client that trusts ``ca`` accept the server's certificate, in memory; the certificate.

    Raises ssl.SSLError.
    """
    server.verify_mode = ssl.CERT_NONE
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(ca)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(ends[0].getpeercert() or {})
