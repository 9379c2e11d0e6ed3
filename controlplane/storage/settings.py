"""Operators' settings of storage."""

from __future__ import annotations

from controlplane.setting import Setting

VOLUMES = "max.account.volumes"
SNAPSHOTS = "max.account.snapshots"
PRIMARY = "max.account.primary.storage"
SECONDARY = "max.account.secondary.storage"
LARGEST = "storage.max.volume.size"
OVERPROVISIONING = "storage.overprovisioning.factor"
AT_ONCE = "concurrent.snapshots.threshold.perhost"
PATIENCE = "job.expire.minutes"
#: interval of a policy -> how many snapshots it may keep
KEPT = {name: f"snapshot.max.{name.lower()}" for name in ("HOURLY", "DAILY", "WEEKLY", "MONTHLY")}


def _limit(name: str, default: int, what: str) -> Setting:
    text = f"{what} an account may have; -1 for no limit"
    return Setting(name, "Account Defaults", str(default), "Integer", text, ("domain", "account"))


VOLUME_SETTINGS: tuple[Setting, ...] = (
    _limit(VOLUMES, 20, "Volumes, root volumes among them,"),
    _limit(SNAPSHOTS, 20, "Snapshots"),
    _limit(PRIMARY, 200, "GiB of volumes"),
    _limit(SECONDARY, 400, "GiB of snapshots, templates and ISOs"),
    Setting(LARGEST, "Storage", "2000", "Integer", "GiB that a volume may have", minimum=1, maximum=1 << 20),
    Setting(
        OVERPROVISIONING,
        "Storage",
        "2",
        "Factor",
        "How many times a storage pool's space is promised to volumes, which take only what was written",
        ("zone",),
    ),
    Setting(
        AT_ONCE,
        "Snapshots",
        "0",
        "Integer",
        "Snapshots that are made at once of the volumes of one host's guests; more wait. 0 for no limit",
        minimum=0,
        maximum=1000,
    ),
    Setting(
        PATIENCE,
        "Snapshots",
        "1440",
        "Integer",
        "Minutes that a snapshot waits for its turn before it fails",
        minimum=1,
        maximum=1 << 20,
    ),
    Setting(
        "snapshot.backup.to.secondary",
        "Snapshots",
        "true",
        "Boolean",
        "Snapshots go to secondary storage where a zone has some; otherwise they stay beside their volumes",
    ),
    *(
        Setting(
            name,
            "Snapshots",
            "8",
            "Integer",
            f"{interval.capitalize()} snapshots that a policy may keep of a volume; 0: there are no such policies",
            minimum=0,
            maximum=1000,
        )
        for interval, name in KEPT.items()
    ),
)
