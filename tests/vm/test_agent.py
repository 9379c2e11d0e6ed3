"""The image boots to an agent that only its control plane can talk to."""

from __future__ import annotations

from tests.netns.lab import Router


def test_the_router_is_healthy_with_its_whole_document(router: Router) -> None:
    health = router.wait_healthy()
    assert health.generation == router.generation
    assert router.status().role == "router"
