"""What is used of pyroute2's rtnetlink(7), to be imported from here where it is first needed.

Importing pyroute2 takes 0.2 s, which an agent that only restores a running state need not wait for, so it happens in
whichever thread needs it. Two threads that begin with different modules of a package find each other's half imported;
one that begins with this module waits for the other.
"""

from __future__ import annotations

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.tcmsg.common import calc_xmittime

__all__ = ["IPRoute", "NetlinkError", "calc_xmittime"]
