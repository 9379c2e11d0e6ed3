"""Rows of storage: pools, volumes, snapshots and their policies (guide: chapter 13)."""
