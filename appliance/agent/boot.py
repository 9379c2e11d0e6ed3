"""What a virtual machine gives the agent at boot: identity as systemd credentials, and word of a bad state disk.

Credentials are the files ``gatehouse.<name>`` of $CREDENTIALS_DIRECTORY (systemd.exec(5)), with the names of the
identity directory: identity.json, ca.pem, cert.pem, key.pem, and authorized_keys where an administrator may log in.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from appliance.agent.tls import describe
from appliance.files import replace_file
from appliance.schema.envelope import Identity

log = logging.getLogger(__name__)

_PREFIX = "gatehouse."
#: what a renewed certificate is kept as in the state directory; the key comes with the credentials alone
_KEPT = "certificate.pem"
_KEYS = "authorized_keys"
#: sshd's port on the control interface (image-build/overlay/usr/lib/gatehouse/sshd-prepare)
SSH_PORT = 3922


def kept_certificate(state_dir: Path) -> Path:
    """Where a renewed certificate survives a reboot."""
    return state_dir / _KEPT


def unpack(credentials: Path, identity_dir: Path, state_dir: Path) -> None:
    """Make the identity directory (root only) from credentials. Raises OSError and ValueError.

    Of the certificates that fit key, CA and id, the newest is taken: the credential's, one that was renewed since and
    kept, or the one that this boot served with.
    """
    given = {path.name.removeprefix(_PREFIX): path.read_bytes() for path in credentials.glob(f"{_PREFIX}*")}
    if "identity.json" not in given:
        raise FileNotFoundError(
            f"no identity was given: the hypervisor must pass the system credential {_PREFIX}identity.json"
        )
    identity_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    served = _read(identity_dir / "cert.pem")
    for path in identity_dir.iterdir():
        if path.name not in given:
            path.unlink()
    for name, content in given.items():
        replace_file(identity_dir / name, content, flush=False)
    identity = Identity.model_validate_json(given["identity.json"])
    candidate = identity_dir / ".candidate.pem"
    newest, newest_time = b"", -1.0
    for content in (given.get("cert.pem", b""), _read(kept_certificate(state_dir)), served):
        if not content:
            continue
        replace_file(candidate, content, flush=False)
        try:
            about = describe(candidate, identity_dir / "key.pem", identity_dir / "ca.pem")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.warning("a certificate does not fit and is passed over: %s", error)
            continue
        begins = ssl.cert_time_to_seconds(str(about["notBefore"]))
        if ("DNS", identity.id) in about.get("subjectAltName", ()) and begins > newest_time:  # type: ignore[operator]
            newest, newest_time = content, begins
    candidate.unlink(missing_ok=True)
    if newest and newest != given.get("cert.pem"):
        replace_file(identity_dir / "cert.pem", newest, flush=False)


def further_ports(identity_dir: Path) -> tuple[int, ...]:
    """TCP ports beside the agent's that are open on the control interface: sshd's, when an administrator has a key."""
    return (SSH_PORT,) if (identity_dir / _KEYS).exists() else ()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
