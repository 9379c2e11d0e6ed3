"""Networks, addresses and rules: what may be, what conflicts, what is allocated. Works on rows, knows no API."""
