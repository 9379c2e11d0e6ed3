"""Virtual machines, their NICs and key pairs: what may be and what is allocated. Works on rows, knows no API."""
