"""The base chains of every appliance, and the deny-first guard that holds before there is any document.

The engine merges ``guard()`` with what the role's services contribute, so services never declare these chains;
they add rules to them (``Ruleset.rules``), each with an order:

====================  ===========================================================================================
chain                 hook; a packet that no rule accepts is dropped in ``input`` and ``forward``
====================  ===========================================================================================
``raw_prerouting``    before connection tracking: every packet that arrives, before anything else sees it
``admission``         prerouting, just before destination NAT: new connections with their original destination
``input``             for the appliance itself; its rules end with ``ACCEPT``, behind which a role may count packets
``forward``           through the appliance, after destination NAT and routing
====================  ===========================================================================================

==========  =====================================================================================================
order       meaning, in every chain
==========  =====================================================================================================
0 - 99      the guard: loopback, replies, invalid packets
100 - 199   drops that no service may override: spoofed sources, IPv6
200 - 299   the role's firewall (tenant's rules)
300 - 899   services open their own ports
900 - 999   the end: what is rejected or logged before the policy drops it
==========  =====================================================================================================

A service opens a port for guests from its own folder, e.g. DNS on one guest interface::

    dns = "ip daddr 10.1.1.1 meta l4proto { tcp, udp } th dport 53"
    Ruleset(rules={INPUT: ((300, f'iifname "eth0" {dns} {ACCEPT}'),)})

Quote interface names. Say the interface: a rule without ``iifname`` would open the port to the public side too.
Where every packet of a connection passes, compare the group of its role instead, one number
(appliance/services/interfaces/model.py); it is set before the interface comes up.
IPv6 has been dropped at order 100, so a rule needs no ``meta nfproto ipv4``. Replies of the appliance need no rule
(there is no output chain). Spoofed guest sources never reach ``input``; the only foreign source let through from a
guest interface is a DHCP client's 0.0.0.0. Address 169.254.169.254 is a local address on the guest interfaces
that have metadata: listen on it, no redirect needed.

A public port of the appliance itself (VPN, load balancer): traffic from a public interface must first pass
the chain ``admission`` with its original destination. The router's firewall opens it there for the tenant's
ingress rules; a service that opens its own port (VPN) adds an ``accept`` to the chain ``ingress_services``
(see router/services/firewall/render.py). Either way the service adds its rule to ``input``.

A service may set packets for the appliance itself free from connection tracking (``notrack`` in ``raw_prerouting``)
after it has judged each of them there: ``input`` lets them in. They are never forwarded. What belongs to no connection
that the kernel knows is dropped, unless a service accepts it in the chain ``invalid``.
"""

from __future__ import annotations

from appliance.netfilter.ruleset import Ruleset

RAW_PREROUTING = "raw_prerouting"
ADMISSION = "admission"
INPUT = "input"
FORWARD = "forward"
INVALID = "invalid"
ACCEPTED = "accepted"
#: how a rule of ``input`` lets a packet in
ACCEPT = f"goto {ACCEPTED}"


def guard(control: str, *ports: int) -> Ruleset:
    """Deny-first rules: only TCP ``ports`` and ping on interface ``control``, loopback, and replies.

    ICMP errors about our own connections (path MTU) are replies. Services build on it, see the module's text.
    """
    return Ruleset(
        chains={
            RAW_PREROUTING: "type filter hook prerouting priority raw; policy accept;",
            # -101: after connection tracking (-200), before destination NAT (-100)
            ADMISSION: "type filter hook prerouting priority -101; policy accept;",
            INPUT: "type filter hook input priority filter; policy drop;",
            FORWARD: "type filter hook forward priority filter; policy drop;",
            INVALID: "",
            ACCEPTED: "",
        },
        rules={
            RAW_PREROUTING: (
                # by its index, which is always 1: names cost more to compare
                (0, 'iif "lo" accept'),
                (100, "meta nfproto ipv6 drop"),
            ),
            ADMISSION: ((0, "ct state != new accept"),),
            INPUT: (
                # bits to compare cost less than a look-up
                (0, f"ct state established,related,untracked {ACCEPT}"),
                (5, f"ct state invalid goto {INVALID}"),
                (10, 'iif "lo" accept'),
                (100, "meta nfproto ipv6 drop"),
                *((110, f'iifname "{control}" tcp dport {port} accept') for port in ports),
                (120, f'iifname "{control}" icmp type echo-request accept'),
                (130, f'iifname "{control}" drop'),
            ),
            INVALID: ((0, 'iif "lo" accept'), (999, "drop")),
            ACCEPTED: ((999, "accept"),),
            FORWARD: (
                (10, "ct state established,related accept"),
                (20, "ct state invalid drop"),
                (100, "meta nfproto ipv6 drop"),
                # the control network is for the appliance alone
                (110, f'iifname "{control}" drop'),
                (120, f'oifname "{control}" drop'),
            ),
        },
    )
