"""The checks of the namespace suite against a router that is a virtual machine."""

from tests.netns.router.test_password import *  # noqa: F403
