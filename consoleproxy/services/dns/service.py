"""The name server for the names of system VMs."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.query

from appliance.engine.service import BaseService, Change, Host, Rendered
from appliance.errors import ProbeError
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.dns.render import PORT, UNIT, config_file, render


class DnsService(BaseService):
    name = "dns"
    after = ("interfaces",)
    inputs = ("dns", "interfaces")

    def render(self, state: ConsoleProxyState, settings: Settings) -> Rendered:
        return render(state, settings)

    def apply(self, change: Change, host: Host) -> None:
        state: ConsoleProxyState | None = change.after
        if (
            state is None
            or state.dns is None
            or UNIT in change.started
            or config_file(host.settings) not in change.files
        ):
            return
        host.supervisor.restart(UNIT)

    def probe(self, state: ConsoleProxyState, host: Host) -> None:
        if not render(state, host.settings).units:
            return
        assert state.dns is not None
        query = dns.message.make_query(state.dns.domain, "SOA")
        for address in state.interfaces.public_addresses():
            try:
                response = dns.query.udp(query, str(address), timeout=1, port=PORT)
            except (OSError, dns.exception.DNSException) as error:
                log = host.supervisor.log_tail(UNIT, 3)
                raise ProbeError(
                    f"the name server on {address} does not answer: {error or type(error)}; {log}"
                ) from error
            if not response.answer:
                raise ProbeError(f"the name server on {address} knows nothing of {state.dns.domain}")


SERVICE = DnsService()
