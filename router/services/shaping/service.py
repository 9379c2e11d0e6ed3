"""Network rates of a router: of each interface, in each direction."""

from __future__ import annotations

from appliance.services.shaping.service import ShapingService

SERVICE = ShapingService()
