"""Names that system VMs are known by: ``aaa-bbb-ccc-ddd.<domain>`` (guide: chapter 16.3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """What a browser calls a system VM. ``domain``: that of the name servers' zone, None without one."""

    host: str
    domain: str | None
    #: what its certificate must be for
    subjects: tuple[str, ...]


def names_of(address: str, setting: str) -> Names:
    """The names of the system VM with public ``address``, given the setting ``consoleproxy.url.domain`` or alike.

    Empty: it is known by its address. ``*.console.example.com``: by a name below that, made of the address. Another
    name stands for itself: something in front sends what it gets on to the system VM.
    """
    if not setting:
        return Names(address, None, (address,))
    if not setting.startswith("*."):
        return Names(setting, None, (setting, address))
    domain = setting.removeprefix("*.")
    host = f"{address.replace('.', '-')}.{domain}"
    return Names(host, domain, (host, address))
