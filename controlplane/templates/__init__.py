"""Templates and ISOs: what guests are made from, and where their images are (guide: chapter 12)."""
