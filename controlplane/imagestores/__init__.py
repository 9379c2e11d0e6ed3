"""Secondary storage: its stores, what is in them, and the system VMs that work there (guide: chapters 12 and 13.5)."""
