"""Interfaces of a console proxy: control, public, and management towards the hypervisors' VNC servers."""

from __future__ import annotations

from appliance.services.interfaces.service import InterfacesService

SERVICE = InterfacesService()
