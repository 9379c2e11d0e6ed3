"""Settings of metering and usage records (guide: chapter 14.1)."""

from __future__ import annotations

from controlplane.setting import Setting

USAGE_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "router.stats.interval",
        "Usage",
        "300",
        "Integer",
        "Seconds between two readings of a router's traffic counters; 0 reads them only before a router goes",
        minimum=0,
    ),
    Setting(
        "router.stats.retention",
        "Usage",
        "72",
        "Integer",
        "Hours that readings of traffic counters are kept for listTrafficHistory",
        minimum=1,
    ),
    Setting("enable.usage.server", "Usage", "true", "Boolean", "Make usage records"),
    Setting(
        "usage.stats.job.aggregation.range",
        "Usage",
        "1440",
        "Integer",
        "Minutes between two runs of the usage job; 1440 makes records of whole days",
        minimum=1,
        maximum=1440,
    ),
    Setting(
        "usage.stats.job.exec.time",
        "Usage",
        "00:15",
        "String",
        "Time of day, in usage.execution.timezone, at which the usage job runs first",
        pattern=r"([01]?[0-9]|2[0-3]):[0-5][0-9]",
        form="a time of day such as 00:15",
    ),
    Setting("usage.execution.timezone", "Usage", "GMT", "Timezone", "Time zone of usage.stats.job.exec.time"),
    Setting(
        "usage.aggregation.timezone",
        "Usage",
        "GMT",
        "Timezone",
        "Time zone of the days that usage records are of; usage.execution.timezone where only that is set",
    ),
    Setting(
        "usage.sanity.check.interval",
        "Usage",
        "0",
        "Integer",
        "Days between two checks of the usage records; 0 for none",
        minimum=0,
    ),
)
