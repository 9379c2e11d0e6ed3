"""What can go wrong in RFB (RFC 6143)."""

from __future__ import annotations


class RfbError(Exception):
    """The other side does not keep to the protocol, or does not let us in. The text is for the log."""
