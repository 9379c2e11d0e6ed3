"""Making charon have the remote access of a document, and ending what it does not allow any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.services.vpn.charon import Charon
from router.services.vpn.plane import Plane
from router.services.vpn.remote.ike import authorities, connections, is_ours, name, place, pool, secrets
from router.services.vpn.remote.model import RemoteAccess
from router.services.vpn.remote.sessions import Session


def bring(daemon: Charon, remote: Sequence[RemoteAccess], plane: Plane) -> None:
    """Load what there should be, unload what is not wanted; a connection with another name loses its clients.

    Secrets and connections are always loaded: of the same name they are replaced, and nobody is disconnected by that.
    So the next certificate is shown to those who come. Raises OSError and RefusedError.
    """
    wanted = {key: message for one in remote for key, message in connections(one, plane)}
    loaded = {key for key in daemon.connections() if is_ours(key)}
    for gone in sorted(loaded - wanted.keys()):
        daemon.unload(gone)
    ikev2 = [one for one in remote if one.ikev2 is not None]
    pools = {name(one, "ikev2"): pool(one) for one in ikev2}
    for gone in sorted(daemon.pools() - pools.keys()):
        daemon.unload_pool(gone)
    known = {id: secret for one in remote for id, secret in secrets(one).items()}
    for gone in sorted({id for id in daemon.secrets() if is_ours(id)} - known.keys()):
        daemon.unload_secret(gone)
    for secret in known.values():
        daemon.load_secret(secret)
    keys = {daemon.load_key(one.ikev2.key.get_secret_value()) for one in ikev2 if one.ikev2 is not None}
    for key in sorted(wanted):
        if key in pools and key not in loaded:
            daemon.load_pool(pools[key])
        daemon.load({key: wanted[key]})
    for gone in sorted(daemon.keys() - keys):
        daemon.unload_key(gone)
    for one in ikev2:
        for certificate in authorities(one):
            daemon.load_authority(certificate)


def missing(daemon: Charon, remote: Sequence[RemoteAccess], plane: Plane) -> set[str]:
    """Connections that charon lacks, as ``<address>/<protocol>``."""
    wanted = {key for one in remote for key, _ in connections(one, plane)}
    return {"/".join(place(key)) for key in wanted - daemon.connections()}


def barred(sessions: Iterable[Session], before: Sequence[RemoteAccess], after: Sequence[RemoteAccess]) -> list[Session]:
    """Sessions that must end: of users who are gone or have another password, or by a key that is another one now."""
    old = {str(one.address): one for one in before}
    new = {str(one.address): one for one in after}
    found = []
    for session in sessions:
        now, then = new.get(session.address), old.get(session.address)
        passwords = {user.name.lower(): user.password for user in now.users} if now is not None else {}
        password = passwords.get(session.user.lower())
        earlier = {user.name.lower(): user.password for user in then.users} if then is not None else {}
        rekeyed = now is not None and then is not None and session.protocol == "l2tp" and now.psk != then.psk
        if password is None or earlier.get(session.user.lower(), password) != password or rekeyed:
            found.append(session)
    return found
