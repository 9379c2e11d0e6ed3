"""Sizes of token buckets."""

from __future__ import annotations

import pytest

from appliance.schema.limits import HIGHEST_RATE
from appliance.shaping import Shape, bucket


@pytest.mark.parametrize("mbit", [1, 10, 200, 1_000, 10_000, HIGHEST_RATE])
@pytest.mark.parametrize("mtu", [576, 1500, 9000])
def test_a_bucket_fits_the_kernel_and_its_traffic(mbit: int, mtu: int) -> None:
    made = bucket(mbit, mtu)
    # payload of full frames reaches the rate, and not much more
    assert made.rate * mtu / (mtu + 14) == pytest.approx(mbit * 125_000, rel=0.001)
    assert max(made.rate, made.ticks, made.limit) < 2**32
    assert made.depth >= 2 * (mtu + 14)
    # what waits is gone in a tenth of a second, but for the slowest interfaces
    assert made.limit / made.rate < max(0.1, 60_000 / made.rate)


def test_fast_interfaces_take_whole_packets_of_tcp_segmentation() -> None:
    assert bucket(100, 1500).depth >= 65_536


def test_zero_and_more_than_can_be_counted_is_no_limit() -> None:
    assert [Shape("eth0", mbit, "x").limited for mbit in (0, 1, HIGHEST_RATE, HIGHEST_RATE + 1)] == [
        False,
        True,
        True,
        False,
    ]
