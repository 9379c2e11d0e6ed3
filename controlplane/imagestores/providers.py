"""What an operator says of a store, checked and in the form of its row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from controlplane.convergence.compile.encoding import reasons
from controlplane.errors import ParameterError
from ssvm.services.storage.model.stores import NfsStore, S3Store, SwiftStore

PROVIDERS = ("Local", "NFS", "S3", "Swift")
#: what other clients call them
ALIASES = {"minio": "S3", "ceph": "S3", "file": "Local", "amazons3": "S3"}
_NFS = re.compile(r"nfs://(?P<server>[0-9.]+)(:(?P<port>[1-9][0-9]{0,4}))?(?P<export>/.*)")
#: directories of the machine that no store can be, or be in
_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr")


@dataclass(frozen=True)
class Described:
    """A store. ``details`` are fields of the document's store, ``secret`` is what must not be shown."""

    provider: str
    url: str
    details: dict[str, object] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)


def provider_of(name: str) -> str:
    """The provider that a client means. Raises ParameterError."""
    wanted = ALIASES.get(name.lower(), name)
    for known in PROVIDERS:
        if known.lower() == wanted.lower():
            return known
    raise ParameterError(f"provider: {name} is not known; known are {', '.join(PROVIDERS)}")


@dataclass(frozen=True)
class Places:
    """``data`` is the control plane's directory, which no store may show; ``images`` the hypervisor's
    (``Hypervisor.images``), where a local store of ``zone`` is for which no URL is given."""

    data: Path
    images: Path
    zone: str


def describe(provider: str, url: str | None, details: Mapping[str, str], places: Places) -> Described:
    """Check what was given. Raises ParameterError."""
    if provider == "Local":
        return Described(provider, _local(url, places))
    if provider == "NFS":
        return _nfs(url or "", details)
    return _s3(url, details) if provider == "S3" else _swift(url, details)


def _local(url: str | None, places: Places) -> str:
    own = places.images / "stores"
    if url is None:
        return f"file://{own / places.zone}"
    path = Path(url.removeprefix("file://"))
    if not url.startswith("file:///") or ".." in path.parts or not all(c.isprintable() for c in url):
        raise ParameterError("url: it must be like file:///srv/images, an absolute path on the hosts")
    path = path.resolve()
    data = places.data.resolve()
    inside = path.is_relative_to(data) and not path.is_relative_to(own)
    if inside or data.is_relative_to(path) or any(path.is_relative_to(one) for one in _SYSTEM):
        raise ParameterError(
            f"url: {path} is not for images: system VMs may write to a store; give it a place of its own"
        )
    return f"file://{path}"


def _nfs(url: str, details: Mapping[str, str]) -> Described:
    found = _NFS.fullmatch(url)
    if found is None:
        raise ParameterError("url: it must be like nfs://10.1.2.3/export/images, with the server's address")
    fields = {"server": found["server"], "export": found["export"], "port": int(found["port"] or 2049)}
    if (version := details.get("version") or details.get("nfs.version")) is not None:
        fields["version"] = version
    try:
        NfsStore.model_validate({"id": "new", **fields})
    except ValidationError as error:
        raise ParameterError(f"url: {reasons(error)}") from None
    return Described("NFS", url, fields)


def _s3(url: str | None, details: Mapping[str, str]) -> Described:
    given = {name.lower(): value for name, value in details.items()}
    scheme = "http" if given.get("usehttps", "true").lower() == "false" else "https"
    endpoint = given.get("endpoint") or url or ""
    if endpoint and "://" not in endpoint:
        endpoint = f"{scheme}://{endpoint}"
    fields = {
        "endpoint": endpoint,
        "bucket": given.get("bucket", ""),
        "region": given.get("region", "us-east-1"),
        "access_key": given.get("accesskey", ""),
    }
    if "prefix" in given:
        fields["prefix"] = given["prefix"]
    secret = given.get("secretkey", "")
    names = {"access_key": "accesskey", "secret": "secretkey"}
    _check(S3Store, fields, secret, names)
    return Described("S3", f"{endpoint.rstrip('/')}/{fields['bucket']}", dict(fields), secret)


def _swift(url: str | None, details: Mapping[str, str]) -> Described:
    given = {name.lower(): value for name, value in details.items()}
    user = given.get("username", "")
    if ":" not in user and given.get("account"):
        user = f"{given['account']}:{user}"
    fields = {"endpoint": url or "", "container": given.get("container", "gatehouse"), "user": user}
    _check(
        SwiftStore, fields, given.get("key", ""), {"user": "account and username", "secret": "key", "endpoint": "url"}
    )
    return Described("Swift", f"{(url or '').rstrip('/')}", dict(fields), given.get("key", ""))


def _check(
    model: type[S3Store] | type[SwiftStore], fields: Mapping[str, str], secret: str, names: Mapping[str, str]
) -> None:
    if not secret:
        raise ParameterError(f"details: {names['secret']} is missing; without it the store cannot be used")
    try:
        model.model_validate({"id": "new", **fields, "secret": secret})
    except ValidationError as error:
        text = reasons(error)
        for ours, theirs in names.items():
            text = text.replace(f"{ours}:", f"{theirs}:")
        raise ParameterError(f"details: {text}") from None
