"""Limits of document fields that programs without a parser of documents need too."""

from __future__ import annotations

#: Mbit/s; what the kernel's token buckets can count: bytes a second in 32 bits (linux/pkt_sched.h, tc_ratespec)
HIGHEST_RATE = 32_000
