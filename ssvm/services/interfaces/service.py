"""Interfaces of a secondary-storage VM: control, public, and management towards stores and internal sites."""

from __future__ import annotations

from appliance.services.interfaces.service import InterfacesService

SERVICE = InterfacesService()
