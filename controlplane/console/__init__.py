"""Consoles of guests: who may see which screen, and the proxies that show them (guide: chapter 16.3)."""
