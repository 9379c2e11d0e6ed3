"""Ready-made profiles for the VPN clients that people's devices have: what to fill in without typing it.

No profile has a password. Those of L2TP have the preshared key, those of IKEv2 the authority's certificate.
"""
