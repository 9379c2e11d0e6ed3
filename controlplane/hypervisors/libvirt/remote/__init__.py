"""Hosts on other machines: ``hostside.HostSide`` run over there, by one ssh connection that carries libvirt's too.

The host needs an SSH server, libvirt, Python and libnftables. Nothing is installed there: a program (``serve``) arrives
over the connection, lives in memory and ends with it. Bridges, filter and domains go on without.
"""
