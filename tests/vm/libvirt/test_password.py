"""Checks of the namespace suite against routers that are virtual machines through libvirt."""

from tests.netns.router.test_password import (
    network,
    test_password_is_fetched_confirmed_and_never_served_again,
    test_password_waits_through_restarts,
)

__all__ = [
    "network",
    "test_password_is_fetched_confirmed_and_never_served_again",
    "test_password_waits_through_restarts",
]
