"""Load balancing through a router beside haproxy alone: requests, throughput; how soon a guest is in rotation."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from controlplane.hypervisors.base import Nic
from controlplane.store.database import Database
from controlplane.store.models import LoadBalancer, LoadBalancerMember
from tests.bench import cloud
from tests.bench.figures import Figure, Target, interleaved
from tests.bench.subjects.api import running_cloud
from tests.bench.subjects.metadata import NGINX
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

ORDER = 7

#: connections at the same time, and bytes of the page that throughput is measured with
CLIENTS, BIG = 32, 8_000_000
ROUTER, ALONE, TRACKED = "203.0.113.2", "203.0.113.4", "203.0.113.5"
FIRST_ANSWER = Path(__file__).parents[1] / "first_answer.py"
#: the rule that is timed, and the first of those in place
TIMED_PORT, FIRST_PORT = 80, 10_000

#: what a person would write who wants just this, without a router around it
_ALONE = """
global
    maxconn 20000
    no strict-limits
defaults
    timeout connect 3s
    timeout client 1h
    timeout server 1h
    timeout http-request 30s
    timeout http-keep-alive 60s
    retries 3
    option redispatch 1
{listens}
"""

#: has the kernel track connections, and nothing more
_TRACKING = """
table inet tracking {
    chain input { type filter hook input priority filter; policy accept; ct state established accept; }
}
"""


def measure(quick: bool) -> Iterator[Figure]:
    yield from _traffic(quick)
    yield from _rotation(quick)


def _traffic(quick: bool) -> Iterator[Figure]:
    seconds, rounds = (1, 2) if quick else (2, 9)
    with cloud.lab() as lab:
        outside, inside = lab.segment("public"), lab.segment()
        client = lab.host("internet", outside, ["203.0.113.1/24"])
        client.run(["sh", "-c", "echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range"])
        members = [_nginx(lab, inside, f"10.1.1.{10 + number}") for number in range(2)]
        _router(lab, inside, outside)
        _alone(lab, inside, outside, ALONE, "10.1.0.2")
        # what a firewall that knows connections costs by itself: no other rule is there
        tracked = _alone(lab, inside, outside, TRACKED, "10.1.0.3")
        tracked.run(["nft", _TRACKING])
        for address in (ROUTER, ALONE, TRACKED):
            for port in _PORTS.values():
                cloud.wait_open(client, address, port)
        for protocol, port in _PORTS.items():
            for what, path, header in (
                ("requests, one connection each", "small", "Connection: close"),
                ("requests, connections kept", "small", ""),
                ("throughput", "big", ""),
            ):
                samples = interleaved(
                    rounds,
                    router=partial(_wrk, client, f"http://{ROUTER}:{port}/{path}", seconds, header),
                    alone=partial(_wrk, client, f"http://{ALONE}:{port}/{path}", seconds, header),
                    tracked=partial(_wrk, client, f"http://{TRACKED}:{port}/{path}", seconds, header),
                )
                index, unit, scale = (1, "Gbit/s", 8e-9) if path == "big" else (0, "requests/s", 1.0)
                rates = {name: [found[index] * scale for found in some] for name, some in samples.items()}
                name, alone = f"load balancer, {protocol}: {what}", ("haproxy alone", rates["alone"])
                yield Figure(name, unit, rates["router"], Target("at least", 0.95, of="ratio"), *alone)
                yield Figure(f"{name}, haproxy where connections are tracked", unit, rates["tracked"], None, *alone)
        assert len(members) == 2


_PORTS = {"tcp": 81, "http": 80}


def _router(lab: Lab, inside: str, outside: str) -> None:
    raw = cloud.state(lab, rules=1)
    raw["loadbalancer"] = {
        "rules": [
            {
                "id": f"rule-{protocol}",
                "address": ROUTER,
                "port": port,
                "interface": "eth0",
                "protocol": "tcp",
                "members": [{"address": f"10.1.1.{10 + number}", "port": 80} for number in range(2)],
                # what makes haproxy speak HTTP
                **({"stickiness": {"method": "LbCookie", "cookie_name": "S"}} if protocol == "http" else {}),
            }
            for protocol, port in _PORTS.items()
        ]
    }
    opened = raw["firewall"]["ingress"][0]
    raw["firewall"]["ingress"] += [
        {**opened, "id": f"lb-{port}", "ports": {"first": port, "last": port}} for port in _PORTS.values()
    ]
    cloud.boot(lab, raw, inside, outside)


def _alone(lab: Lab, inside: str, outside: str, public: str, own: str) -> Machine:
    """A machine on the two segments with haproxy, no rules and no NAT."""
    machine = lab.guest(inside, address=f"{own}/16")
    lab.hypervisor.attach_nic(machine.id, Nic(lab.mac(), outside, trusted=True))
    machine.configure([f"{public}/24"], interface="eth1")
    listens = "".join(
        f"listen {protocol}\n    bind {public}:{port}\n    mode {protocol}\n    balance roundrobin\n"
        + (
            "    option forwardfor\n    cookie S insert dynamic\n    dynamic-cookie-key x\n"
            if protocol == "http"
            else ""
        )
        + "".join(f"    server s{number} 10.1.1.{10 + number}:80 check inter 5s\n" for number in range(2))
        for protocol, port in _PORTS.items()
    )
    machine.write("/run/haproxy.cfg", _ALONE.format(listens=listens))
    # a session of its own, as a router has: the scheduler shares time out by session (sched(7), autogroup)
    machine.popen(["setsid", "haproxy", "-W", "-f", "/run/haproxy.cfg"])
    return machine


def _nginx(lab: Lab, segment: str, address: str) -> Machine:
    machine = lab.guest(segment, address=f"{address}/16", gateway="10.1.0.1")
    machine.run(["mkdir", "-p", "/run/files"])
    machine.write("/run/files/small", "x" * 100)
    machine.run(["sh", "-c", f"head -c {BIG} /dev/zero >/run/files/big; chmod -R a+rX /run/files"])
    machine.write("/run/nginx.conf", NGINX)
    machine.popen(["nginx", "-c", "/run/nginx.conf"])
    wait_for(lambda: machine.connects("127.0.0.1", 80), 5, "nginx")
    return machine


def _wrk(client: Machine, url: str, seconds: int, header: str) -> tuple[float, float]:
    """Requests and bytes a second."""
    options = ["-H", header] if header else []
    done = client.run(["wrk", "-t", "1", "-c", str(CLIENTS), "-d", str(seconds), *options, url]).stdout
    assert "Non-2xx" not in done, done
    found = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)([KMG]?)B read", done)
    assert found is not None, done
    size = float(found[3]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[found[4]]
    return int(found[1]) / float(found[2]), size / float(found[2])


# ---- rotation


def _rotation(quick: bool) -> Iterator[Figure]:
    rules, rounds = (20, 3) if quick else (200, 11)
    with running_cloud() as made:
        network = made.network(made.admin, "balanced")
        guests = [made.deploy(made.admin, name, network) for name in ("old", "new")]
        for guest in guests:
            made.address(guest["id"])
            made.serve_page(guest["id"], guest["name"])
        [address] = made.admin.listPublicIpAddresses(associatednetworkid=network["id"])["publicipaddress"]
        rule = made.admin.createLoadBalancerRule(
            name="timed",
            algorithm="roundrobin",
            publicport=TIMED_PORT,
            privateport=80,
            publicipid=address["id"],
            openfirewall="true",
        )["loadbalancer"]
        _put_in_place(made, network, address, guests[0], rules)
        made.admin.assignToLoadBalancerRule(id=rule["id"], virtualmachineids=guests[0]["id"])
        # the first bring the rules to the router, and are not of the steady state
        times = [_in_rotation(made, address, rule, guests[1]) for _ in range(rounds + 2)][2:]
    yield Figure(
        f"a guest assigned to one of {rules} load balancer rules: API call to its first answer",
        "ms",
        times,
        Target("at most", 300),
    )


def _put_in_place(made: Cloud, network: Answer, address: Answer, guest: Answer, rules: int) -> None:
    """Write the rules as the API would have, each with the guest as its member."""
    database = Database.in_directory(made.data)
    with database.transaction() as session:
        for port in range(FIRST_PORT, FIRST_PORT + rules):
            rule = LoadBalancer(
                network_id=network["id"],
                public_ip_id=address["id"],
                name=f"rule-{port}",
                algorithm="roundrobin",
                protocol="tcp",
                public_port=port,
                private_port=80,
                source_cidrs=[],
                state="Active",
            )
            session.add(rule)
            session.flush()
            session.add(LoadBalancerMember(rule_id=rule.id, nic_id=guest["nic"][0]["id"], state="Active"))
    database.close()


def _in_rotation(made: Cloud, address: Answer, rule: Answer, guest: Answer) -> float:
    """Milliseconds from the call to the first answer by the guest; it is removed again afterwards."""
    argv = made.instances.command(INTERNET, ["/usr/bin/python3", "-c", FIRST_ANSWER.read_text()])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as prober:
        assert prober.stdin and prober.stdout
        prober.stdin.write(f"{address['ipaddress']} {TIMED_PORT} {guest['name']}\n")
        prober.stdin.flush()
        time.sleep(0.2)  # it is asking by now, so that its start is not measured
        begin = time.monotonic()
        job = made.sender.assignToLoadBalancerRule(id=rule["id"], virtualmachineids=guest["id"])["jobid"]
        moment = prober.stdout.readline().strip()
        prober.stdin.close()
    assert moment != "late", f"{guest['name']} was not asked: {made.sender.queryAsyncJobResult(jobid=job)}"
    wait_for(lambda: made.jobs([job])[job] != 0, 30, "the job's end")
    made.admin.removeFromLoadBalancerRule(id=rule["id"], virtualmachineids=guest["id"])
    return (float(moment) - begin) * 1000
