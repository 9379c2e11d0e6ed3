"""What runs in every appliance."""

VERSION = "0.1.0"
