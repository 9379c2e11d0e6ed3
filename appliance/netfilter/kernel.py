"""The appliance's nftables table in the kernel: apply, compare, read counters.

Everything happens in the network namespace of the calling thread, in ``table inet gatehouse``; other tables are
never touched. A change is one transaction: the kernel takes all of it or none (nft(8), libnftables(3)).
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Collection

from appliance.errors import ApplyError
from appliance.netfilter import transaction
from appliance.netfilter.compare import differences
from appliance.netfilter.libnftables import NftError, run
from appliance.netfilter.ruleset import TABLE, Ruleset

# linux/netfilter/nfnetlink.h, nf_tables.h
_NETLINK_NETFILTER = 12
_NFT_MSG_GETGEN = (10 << 8) | 16
_NFT_MSG_NEWGEN = (10 << 8) | 15
_NFTA_GEN_ID = 1

_COUNTED = re.compile(r"([^{},]+?) counter packets (\d+) bytes (\d+)")


class Netfilter:
    """Holds no state, the kernel does."""

    def apply(self, before: Ruleset | None, after: Ruleset | None) -> None:
        """Make the table hold ``after``, in one transaction.

        With ``before`` (what the table holds now) only the difference is sent; should the kernel not hold it after
        all, or with None, the whole table is replaced and counted sets go on from where they were. ``after`` None
        removes the table. Raises ApplyError, and the table is as it was.
        """
        try:
            if before is not None and after is not None:
                try:
                    if commands := self._delta(before, after):
                        run(commands)
                    return
                except NftError:
                    pass
            counters = self.counters(transaction.counted(after)) if after is not None else {}
            run(transaction.replacement(after, counters))
        except NftError as error:
            raise ApplyError(f"nftables refused the ruleset: {error}") from error

    def generation(self) -> int:
        """The kernel's ruleset generation of this network namespace: any change to any table raises it."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(2.0)
            # struct nlmsghdr (NLM_F_REQUEST), struct nfgenmsg
            netlink.send(struct.pack("=IHHIIBBH", 20, _NFT_MSG_GETGEN, 1, 1, 0, socket.AF_UNSPEC, 0, 0))
            answer = netlink.recv(4096)
        kind = struct.unpack_from("=H", answer, 4)[0]
        offset = 20
        while kind == _NFT_MSG_NEWGEN and offset + 8 <= len(answer):
            length, attribute = struct.unpack_from("=HH", answer, offset)
            if attribute == _NFTA_GEN_ID:
                number: int = struct.unpack_from(">I", answer, offset + 4)[0]
                return number
            offset += (length + 3) & ~3
        raise ApplyError("nftables did not answer with its generation")

    def counters(self, names: Collection[str]) -> dict[str, dict[str, tuple[int, int]]]:
        """``{set: {element key: (packets, bytes)}}`` of counted sets; a set that does not exist has no entries."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for name in names:
            try:
                text = run(f"list set {TABLE} {name}\n")
            except NftError:
                text = ""
            found[name] = {
                match[1].strip(): (int(match[2]), int(match[3]))
                for match in _COUNTED.finditer(text.partition("elements")[2])
            }
        return found

    def matches(self, ruleset: Ruleset) -> bool:
        """Compare the kernel's table with ``ruleset`` rule by rule and element by element (slow: lists it all)."""
        return not differences(ruleset)

    def _delta(self, before: Ruleset, after: Ruleset) -> str:
        counters = self.counters(transaction.redeclared_counted(before, after))
        return transaction.delta(before, after, counters)
