"""System VMs: appliances that serve a zone, as many as it needs, known by names (guide: chapter 16)."""
