"""Load balancing by haproxy on a router, seen by clients on the internet and by the guests behind it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.netns.lab import Lab
from tests.netns.router.balancing import FAST, PUBLIC, Raw, Site, build, member, rule
from tests.netns.router.traffic import PYTHON, talk
from tests.wait import wait_for

pytestmark = pytest.mark.any_hypervisor

# one connection a request until there are enough and /run/enough exists; prints who answered how many, and failures
_FLOOD = """
import collections, json, os, socket, sys, threading
address, port, wanted, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 4
answers, failures, lock = collections.Counter(), [], threading.Lock()
def work():
    while sum(answers.values()) < wanted or not os.path.exists('/run/enough'):
        try:
            with socket.create_connection((address, port), 5) as client:
                client.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                data = b""
                while part := client.recv(4096):
                    data += part
            head, _, body = data.partition(b"\\r\\n\\r\\n")
            if b" 200 " not in head.split(b"\\r\\n")[0] or not body:
                raise OSError(f"answer {data[:60]!r}")
            with lock:
                answers[body.decode()] += 1
        except OSError as error:
            with lock:
                failures.append(repr(error))
threads = [threading.Thread(target=work) for _ in range(workers)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([answers, failures]))
"""

# prints the first bytes of each connection in hexadecimal
_DUMP = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    with client:
        client.settimeout(1)
        try:
            data = client.recv(64)
        except OSError:
            data = b""
        with open("/run/dump", "a") as file: print(data.hex(), file=file)
"""

# a web application that names its sessions itself
_APPLICATION = """
import http.server, sys, uuid
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[2].encode()
        self.send_response(200)
        if "session" not in self.headers.get("Cookie", ""):
            self.send_header("Set-Cookie", "other=1; path=/")
            self.send_header("Set-Cookie", f"session{sys.argv[3]}={uuid.uuid4().hex}; path=/")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""


# answers with the headers of the request and who it is
_SHOW = """
import http.server, json, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        headers = {name.lower(): value for name, value in self.headers.items()} | {"me": socket.gethostname()}
        body = json.dumps(headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return build(lab)


def workers(site: Site) -> list[int]:
    return site.router.pids("haproxy")


def test_round_robin_needs_the_firewall(site: Site) -> None:
    site.balance(rule(member(0), member(1), member(2)), opened=())
    assert site.client.http(f"http://{PUBLIC}/", timeout=1)[0] == 0
    site.balance(rule(member(0), member(1), member(2)))
    assert site.ask(6) == {"guest0": 2, "guest1": 2, "guest2": 2}
    # guests of the network itself need no rule
    assert site.guests[0].http(f"http://{PUBLIC}/")[0] == 200
    site.router.wait_healthy()
    assert 'gatehouse_loadbalancer_member_up{rule="rule-80",member="10.1.1.10:8080"} 1' in site.router.metrics()


def test_haproxy_has_few_rights(site: Site) -> None:
    site.balance(rule(member(0)))
    for pid in workers(site):
        status = dict(line.split(":\t", 1) for line in site.router.read(f"/proc/{pid}/status").splitlines())
        assert status["Uid"].split()[0] != "0"
        assert int(status["CapEff"], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
        assert status["NoNewPrivs"] == "1"


def test_source_keeps_a_client_on_one_member(site: Site) -> None:
    site.balance(rule(member(0), member(1), member(2), algorithm="source"))
    assert len(site.ask(6)) == 1


def test_least_connections_go_where_fewest_are(site: Site) -> None:
    site.balance(rule(member(0), member(1), algorithm="leastconn"))
    # connections that say nothing are at a member all the same
    held = [talk(site.client, PUBLIC, 80)]
    try:
        [freer] = site.ask(6)
        assert freer
        held += [talk(site.client, PUBLIC, 80), talk(site.client, PUBLIC, 80)]
        [now] = site.ask(3)  # one has two of the three
        assert now
    finally:
        for connection in held:
            connection.close()


def test_http_tells_members_the_client(site: Site) -> None:
    for guest in site.guests[:2]:
        guest.popen([PYTHON, "-c", _SHOW, "8095"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda guest=guest: guest.connects("127.0.0.1", 8095), 5, "the server")  # type: ignore[misc]
    site.balance(rule(member(0, 8095), member(1, 8095), protocol="http"))
    told = json.loads(site.client.http(f"http://{PUBLIC}/")[1])
    assert told["x-forwarded-for"] == "203.0.113.1"
    # requests of one connection are balanced one by one
    urls = [f"http://{PUBLIC}/{number}" for number in range(4)]
    shown = site.client.run(["curl", "-s", "-w", "\n", *urls]).stdout.split("\n")
    assert len({json.loads(one)["me"] for one in shown if one}) == 2


def test_members_change_without_a_reload(site: Site) -> None:
    site.balance(rule(member(0)))
    before = workers(site)
    site.balance(rule(member(0), member(1)))
    assert set(site.ask(4)) == {"guest0", "guest1"}
    site.balance(rule(member(1)))
    assert set(site.ask(4)) == {"guest1"}
    assert workers(site) == before
    # what a restart reads says the same
    site.router.kill("haproxy")
    wait_for(lambda: set(site.ask(2)) == {"guest1"}, 10, "haproxy to be started again")


def test_a_source_list_refuses_the_others(site: Site) -> None:
    site.balance(rule(member(0), sources=["203.0.113.1/32"]))
    assert site.client.http(f"http://{PUBLIC}/") == (200, "guest0")
    assert site.stranger.http(f"http://{PUBLIC}/", timeout=2)[0] == 0


def test_an_established_connection_survives_changes(site: Site) -> None:
    echo = rule(member(0, 7), id="echo", port=7)
    site.balance(echo, opened=(7, 80))
    connection = talk(site.client, PUBLIC, 7)
    try:
        site.balance(echo, rule(member(0)), opened=(7, 80))  # a reload
        assert connection.alive()
        site.balance({**echo, "members": [member(1, 7)]}, rule(member(0)), opened=(7, 80))  # its member goes
        assert connection.alive()
        site.balance(rule(member(0)), opened=(7, 80))  # its rule goes
        assert connection.alive()
    finally:
        connection.close()


@pytest.mark.namespaces_only  # a hundred changes take a minute there
def test_requests_never_fail_while_rules_change(site: Site) -> None:
    site.balance(rule(member(0), member(1)))
    argv = [PYTHON, "-c", _FLOOD, PUBLIC, "80", "10000"]
    flood = site.client.popen(argv)
    for change in range(100):
        members = [member(number) for number in range(3) if number != change % 3]
        more = [rule(member(0), id="more", port=81)] if change % 4 < 2 else []
        site.balance(rule(*members), *more)
    site.client.write("/run/enough", "")
    output, errors = flood.communicate(timeout=120)
    answers, failures = json.loads(output)
    assert failures == [], (len(failures), failures[:5], errors)
    assert sum(answers.values()) >= 10000
    assert set(answers) == {"guest0", "guest1", "guest2"}


def test_a_load_balancer_cookie(site: Site) -> None:
    sticky = {"method": "LbCookie", "cookie_name": "SRV", "indirect": True, "nocache": True, "domains": ["a.example"]}
    site.balance(rule(member(0), member(1), stickiness=sticky))
    before = workers(site)
    site.balance(rule(member(0), member(1), member(2), stickiness=sticky))
    assert workers(site) == before
    for _ in range(3):
        head = site.client.http(f"http://{PUBLIC}/", "-D", "-", "-o", "/dev/null")[1]
        [line] = [line for line in head.splitlines() if line.lower().startswith("set-cookie:")]
        assert "domain=a.example" in line
        assert "10.1.1" not in line
        cookie = line.split(":", 1)[1].split(";")[0].strip()
        assert len(site.ask(4, "-b", cookie)) == 1
    assert set(site.ask(6)) == {"guest0", "guest1", "guest2"}


@pytest.mark.parametrize(("prefix", "suffix"), [(False, ""), (True, "XYZ")])
def test_the_cookie_of_an_application(site: Site, prefix: bool, suffix: str) -> None:
    port = 8090 + prefix
    for number, guest in enumerate(site.guests):
        argv = [PYTHON, "-c", _APPLICATION, str(port), f"guest{number}", suffix]
        guest.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda guest=guest: guest.connects("127.0.0.1", port), 5, "the application")  # type: ignore[misc]
    sticky = {"method": "AppCookie", "cookie_name": "session", "prefix": prefix, "mode": "query-string"}
    site.balance(rule(*(member(number, port) for number in range(3)), stickiness=sticky))
    for _ in range(3):
        head, _, who = site.client.http(f"http://{PUBLIC}/", "-D", "-")[1].replace("\r", "").partition("\n\n")
        cookie = next(line.split()[1] for line in head.splitlines() if "session" in line).rstrip(";")
        assert site.ask(4, "-b", f"a=b; {cookie}") == {who: 4}
        assert site.ask(4, url=f"http://{PUBLIC}/?{cookie}") == {who: 4}
    assert len(site.ask(6)) == 3


def test_a_client_address_keeps_its_member_while_others_come_and_go(site: Site) -> None:
    sticky = {"method": "SourceBased", "table_size": 1000, "expire": 60}
    site.balance(rule(member(0), member(1), stickiness=sticky))
    first = site.stranger.http(f"http://{PUBLIC}/")[1]
    [who] = site.ask(6)
    assert who != first
    assert site.stranger.http(f"http://{PUBLIC}/")[1] == first
    mine = member(int(who.removeprefix("guest")))
    for members in ([member(0), member(1), member(2)], [mine, member(2)], [mine]):
        site.balance(rule(*members, stickiness=sticky))
        assert set(site.ask(6)) == {who}


def test_a_dead_guest_leaves_rotation_in_time(site: Site) -> None:
    site.balance(rule(member(0), member(1), health={**FAST, "path": "/"}))
    assert set(site.ask(4)) == {"guest0", "guest1"}
    site.guests[1].run(["ip", "link", "set", "eth0", "down"])
    try:
        # two looks a second apart, each of which may take a second
        wait_for(lambda: _states(site) == {"10.1.1.10:8080": "Up", "10.1.1.11:8080": "Down"}, 5, "the guest to be down")
        assert site.ask(4) == {"guest0": 4}
        site.balance(rule(member(0), member(1), health={**FAST, "path": "/"}), rule(member(0), id="more", port=81))
        assert _states(site) == {"10.1.1.10:8080": "Up", "10.1.1.11:8080": "Down"}, "a reload forgets who is down"
        assert site.ask(4) == {"guest0": 4}
    finally:
        site.guests[1].run(["ip", "link", "set", "eth0", "up"])
        site.guests[1].run(["ip", "route", "replace", "default", "via", "10.1.1.1"])
    wait_for(lambda: set(site.ask(4)) == {"guest0", "guest1"}, 5, "the guest to be back")


def _states(site: Site) -> Any:
    return site.router.status().reports["loadbalancer"]["members"]["rule-80"]


def test_the_proxy_protocol_tells_the_client(site: Site) -> None:
    guest = site.guests[2]
    guest.popen([PYTHON, "-c", _DUMP, "9000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: guest.connects("127.0.0.1", 9000), 5, "the server")
    site.balance(rule(member(2, 9000), protocol="tcp-proxy"))
    site.client.http(f"http://{PUBLIC}/", timeout=2)
    # the PROXY protocol's section 2.2: signature, version 2 and PROXY, TCP over IPv4, 12 bytes, source, destination
    signature = bytes.fromhex("0d0a0d0a000d0a515549540a2111000ccb007101cb007102").hex()
    assert any(line.startswith(signature) for line in guest.read("/run/dump").split())


def _certificate(name: str) -> Raw:
    return {"id": f"certificate-{name}", "pem": "".join(self_signed(name))}


def test_tls_ends_at_the_router_with_the_certificate_asked_for(site: Site) -> None:
    certificates = [_certificate("one.example"), _certificate("two.example")]
    secure = rule(member(0), id="secure", port=443, protocol="ssl", certificates=[one["id"] for one in certificates])
    site.balance(secure, opened=(443,), certificates=certificates)
    for name, subject in (("one.example", "one"), ("two.example", "two"), ("three.example", "one")):
        options = ("-k", "-v", "--stderr", "-", "--resolve", f"{name}:443:{PUBLIC}")
        text = site.client.http(f"https://{name}/", *options)[1]
        assert f"CN={subject}.example" in text
        assert text.rstrip().splitlines()[-1].endswith("guest0") or "guest0" in text
    refused = site.client.http(f"https://{PUBLIC}/", "-k", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    assert refused[0] == 0
    modes = site.router.run(["sh", "-c", "stat -c %a:%U /etc/gatehouse/loadbalancer/*.pem"]).stdout.split()
    assert modes == ["600:haproxy"] * 2


def test_no_rules_no_haproxy(site: Site) -> None:
    site.balance(rule(member(0)))
    assert workers(site)
    site.router.push(site.state)
    assert not workers(site)
    assert site.client.http(f"http://{PUBLIC}/", timeout=1)[0] == 0
