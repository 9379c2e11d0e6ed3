"""Network rates of a secondary-storage VM: of each interface, in each direction."""

from __future__ import annotations

from appliance.services.shaping.service import ShapingService

SERVICE = ShapingService()
