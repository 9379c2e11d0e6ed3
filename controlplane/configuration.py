"""Operators' settings (listConfigurations, updateConfiguration): the catalogue, and typed reading with scopes.

The tables hold only values that were changed. A value of a narrower scope wins: account, domain, zone, then global.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.console.settings import CONSOLE_SETTINGS
from controlplane.errors import ParameterError
from controlplane.imagestores.settings import STORAGE_SETTINGS
from controlplane.network.vpnsettings import VPN_SETTINGS
from controlplane.setting import SCOPES, Scope, Setting
from controlplane.storage.settings import VOLUME_SETTINGS
from controlplane.store.models import Configuration as Row
from controlplane.usage.settings import USAGE_SETTINGS

__all__ = ["SCOPES", "SETTINGS", "Configuration", "Scope", "Setting"]

SETTINGS: tuple[Setting, ...] = (
    *CONSOLE_SETTINGS,
    *STORAGE_SETTINGS,
    *USAGE_SETTINGS,
    *VOLUME_SETTINGS,
    *VPN_SETTINGS,
    Setting(
        "default.page.size",
        "Advanced",
        "500",
        "Integer",
        "Number of items of a list answer when the client asks for no size; also the most a client may ask for",
        minimum=1,
        maximum=500,
    ),
    Setting("api.throttling.enabled", "Advanced", "false", "Boolean", "Limit the number of API calls of an account"),
    Setting("api.throttling.interval", "Advanced", "1", "Integer", "Seconds in which calls are counted", minimum=1),
    Setting("api.throttling.max", "Advanced", "25", "Integer", "Calls an account may make in one interval", minimum=1),
    Setting(
        "session.timeout", "Advanced", "1800", "Integer", "Seconds without a call after which a login ends", minimum=60
    ),
    Setting(
        "max.account.public.ips",
        "Account Defaults",
        "20",
        "Integer",
        "Public addresses an account may have; -1 for no limit",
        ("domain", "account"),
    ),
    Setting(
        "max.account.user.vms",
        "Account Defaults",
        "20",
        "Integer",
        "Virtual machines an account may have; -1 for no limit",
        ("domain", "account"),
    ),
    Setting(
        "max.account.networks",
        "Account Defaults",
        "20",
        "Integer",
        "Networks an account may have; -1 for no limit",
        ("domain", "account"),
    ),
    Setting(
        "cpu.overprovisioning.factor",
        "Advanced",
        "1.0",
        "Factor",
        "How many times a host's processor time is promised to instances",
        ("zone",),
    ),
    Setting(
        "mem.overprovisioning.factor",
        "Advanced",
        "1.0",
        "Factor",
        "How many times a host's memory is promised to instances",
        ("zone",),
    ),
    Setting(
        "network.gc.interval",
        "Advanced",
        "600",
        "Integer",
        "Seconds between two looks for networks that no guest uses",
        minimum=1,
    ),
    Setting(
        "network.gc.wait",
        "Advanced",
        "600",
        "Integer",
        "Seconds that a network without guests keeps its router",
        minimum=0,
    ),
    Setting(
        "guest.domain.suffix",
        "Network",
        "cloud.internal",
        "String",
        "Network domain of networks that have none from their account, domain or zone; of accounts, what it ends with",
        ("zone",),
    ),
    Setting(
        "network.throttling.rate",
        "Network",
        "200",
        "Integer",
        "Mbit/s in each direction of networks whose offering has no network rate; 0 for no limit",
        ("zone",),
        minimum=0,
    ),
    Setting(
        "vm.network.throttling.rate",
        "Network",
        "200",
        "Integer",
        "Mbit/s in each direction of the default NIC of VMs whose service offering has no network rate; 0 for no limit",
        minimum=0,
    ),
    Setting(
        "allow.subdomain.network.access",
        "Advanced",
        "true",
        "Boolean",
        "Shared networks of a domain are for the domains below it too, unless subdomainaccess says otherwise",
    ),
    Setting(
        "vm.network.nic.max.secondary.ipaddresses",
        "Network",
        "10",
        "Integer",
        "Secondary addresses that a NIC may have",
        minimum=0,
    ),
    Setting(
        "vm.password.length",
        "Advanced",
        "12",
        "Integer",
        "Length of the passwords that are made for guests",
        minimum=6,
        maximum=64,
    ),
    Setting(
        "vm.userdata.max.length",
        "Advanced",
        "32768",
        "Integer",
        "Bytes of user data a guest may have, before base64",
        minimum=1,
        maximum=1048576,
    ),
    Setting(
        "allow.user.expunge.recover.vm",
        "Advanced",
        "false",
        "Boolean",
        "Users, not only administrators, may expunge and recover virtual machines",
        ("account",),
    ),
    Setting(
        "allow.user.view.destroyed.vm",
        "Advanced",
        "false",
        "Boolean",
        "Users, not only administrators, see destroyed virtual machines in lists",
        ("account",),
    ),
    Setting(
        "expunge.delay",
        "Advanced",
        "86400",
        "Integer",
        "Seconds that a destroyed virtual machine can be recovered",
        minimum=1,
    ),
    Setting(
        "expunge.interval",
        "Advanced",
        "86400",
        "Integer",
        "Seconds between two looks for destroyed virtual machines to expunge",
        minimum=1,
    ),
)


class Configuration:
    """Reads settings in a caller's session. Holds no values, so a change takes effect at the next reading."""

    def __init__(self, settings: tuple[Setting, ...] = SETTINGS) -> None:
        self.settings = {setting.name: setting for setting in settings}

    def get(self, session: Session, name: str, **scope_ids: str | None) -> str:
        """The value of ``name``. ``zone=``, ``domain=``, ``account=`` give the ids whose own values win.

        Raises KeyError for a name that is not in the catalogue.
        """
        setting = self.settings[name]
        values = {(row.scope, row.scope_id): row.value for row in session.scalars(select(Row).where(Row.name == name))}
        for scope in SCOPES:
            scope_id = scope_ids.get(scope)
            if scope_id is not None and (scope, scope_id) in values:
                return values[scope, scope_id]
        return values.get(("", ""), setting.default)

    def get_int(self, session: Session, name: str, **scope_ids: str | None) -> int:
        """The same as a number."""
        return int(self.get(session, name, **scope_ids))

    def get_bool(self, session: Session, name: str, **scope_ids: str | None) -> bool:
        """The same as a truth value."""
        return self.get(session, name, **scope_ids) == "true"

    def is_set(self, session: Session, name: str) -> bool:
        """Whether somebody gave a global value, be it the default."""
        return session.get(Row, (name, "", "")) is not None

    def set(self, session: Session, name: str, value: str, scope: Scope | None = None, scope_id: str = "") -> None:
        """Store a value. Raises ParameterError for an unknown name, a bad value or a scope the setting has not."""
        setting = self.settings.get(name)
        if setting is None:
            raise ParameterError(f"Config parameter with name {name} doesn't exist; listConfigurations shows them")
        if scope is not None and scope not in setting.scopes:
            raise ParameterError(f"{name} cannot be set for one {scope}")
        key = (name, scope or "", scope_id)
        row = session.get(Row, key)
        if row is None:
            row = Row(name=name, scope=key[1], scope_id=scope_id)
            session.add(row)
        row.value = setting.check(value)
        session.flush()
