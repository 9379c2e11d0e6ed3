"""A console proxy, a machine with VNC servers on its management network, and a person with a browser outside."""

from __future__ import annotations

import copy
import hashlib
import secrets
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.certificates import self_signed
from tests.netns.lab import Lab, Machine, Router
from tests.wait import wait_for

Raw = dict[str, Any]

PROXY, PERSON, SERVERS = "203.0.113.10", "203.0.113.50", "10.9.0.1"
DOMAIN = "console.example"
#: the colour of the guest's screen
COLOUR = (48, 80, 128)


@dataclass
class World:
    """``state`` is what the proxy has now."""

    lab: Lab
    proxy: Router
    servers: Machine
    person: Machine
    #: the segment outside
    public: str
    state: Raw
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    displays: int = 0
    #: what was fetched from the proxy, by name
    recordings: dict[str, bytes] = field(default_factory=dict)

    # ---- the control plane's part

    def session(self, target: Raw, **more: Any) -> tuple[str, str]:
        """A new session in the document; its id and its token."""
        session_id, token = f"session-{self.lab.number()}", secrets.token_urlsafe(32)
        expires = datetime.now(UTC) + timedelta(seconds=more.pop("seconds", 60))
        entry = {
            "id": session_id,
            "token_hash": hashlib.sha256(token.encode()).hexdigest(),
            "vm": "vm-1",
            "name": "web-01",
            "target": target,
            "expires": expires.isoformat(),
            **more,
        }
        self.state["console"]["sessions"].append(entry)
        self.push()
        return session_id, token

    def push(self, **console: Any) -> None:
        """Push the state, with fields of its console section replaced for good."""
        self.state["console"].update(console)
        self.proxy.push(copy.deepcopy(self.state))

    def remove(self, session_id: str) -> None:
        sessions = self.state["console"]["sessions"]
        self.push(sessions=[one for one in sessions if one["id"] != session_id])

    def report(self) -> Raw:
        report: Raw = self.proxy.status().reports["console"]
        return report

    def records(self, session_id: str, what: str = "") -> list[Raw]:
        """The proxy's records of one session."""
        return [
            record
            for record in self.report()["records"]
            if record["session"] == session_id and what in ("", record["what"])
        ]

    def url(self, token: str) -> str:
        return f"https://{PROXY}/console/?token={token}"

    # ---- guests' screens

    def screen(self, *options: str, security: str = "None", colour: str = "#305080") -> Screen:
        """A TigerVNC server with an X screen of one colour."""
        self.displays += 1
        number, port = self.displays, 5900 + self.displays
        server = self.servers.popen(
            [
                "Xtigervnc",
                f":{number}",
                *("-rfbport", str(port), "-SecurityTypes", security, "-geometry", "800x600", "-depth", "24"),
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(server)
        screen = Screen(self, number, port)
        wait_for(lambda: screen.x("xsetroot", "-solid", colour), 20, f"display {number}")
        return screen


@dataclass
class Screen:
    """One guest's screen."""

    world: World
    number: int
    port: int

    def target(self, **more: Any) -> Raw:
        return {"kind": "vnc", "host": SERVERS, "port": self.port, **more}

    def x(self, *argv: str) -> bool:
        """Run an X program on it; whether it succeeded."""
        return self.world.servers.ok(["env", f"DISPLAY=:{self.number}", *argv])

    def terminal(self, path: str) -> None:
        """A terminal with the keyboard's focus, whose first line of input gets into the file ``path``."""
        program = self.world.servers.popen(
            [
                "env",
                f"DISPLAY=:{self.number}",
                "xterm",
                "-u8",
                "-e",
                "sh",
                "-c",
                f'read -r line; printf %s "$line" >{path}',
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.world.processes.append(program)
        # without a window manager the focus is where the pointer is
        wait_for(lambda: "xterm" in " ".join(self.world.servers.processes().values()), 10, "xterm")

    def copy(self, text: str) -> None:
        """Put text into the guest's clipboard."""
        self.world.processes.append(
            self.world.servers.popen(
                [
                    "env",
                    f"DISPLAY=:{self.number}",
                    "sh",
                    "-c",
                    f"printf %s {shlex.quote(text)} | xclip -quiet -selection clipboard",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def clipboard(self) -> str:
        argv = ["env", f"DISPLAY=:{self.number}", "timeout", "2", "xclip", "-o", "-selection", "clipboard"]
        return self.world.servers.run(argv, check=False).stdout


def build(lab: Lab) -> World:
    public, management = lab.segment("public"), lab.segment("management")
    certificate, key = self_signed(PROXY)
    state: Raw = {
        "hostname": "v-1-vm",
        "interfaces": {
            "interfaces": [
                lab.control("eth0"),
                {"name": "eth1", "mac": lab.mac(), "role": "management", "addresses": ["10.9.0.2/24"]},
                {
                    "name": "eth2",
                    "mac": lab.mac(),
                    "role": "public",
                    "addresses": [f"{PROXY}/24"],
                    "gateway": "203.0.113.1",
                },
            ]
        },
        "console": {"domain": DOMAIN, "certificate": {"certificate": certificate, "key": key}, "sessions": []},
    }
    proxy = lab.router(
        state, role="consoleproxy", segments={"eth0": "control", "eth1": management, "eth2": public}, memory_mb=512
    )
    return World(
        lab,
        proxy,
        servers=lab.host("servers", management, [f"{SERVERS}/24"]),
        person=lab.host("person", public, [f"{PERSON}/24"]),
        public=public,
        state=state,
    )
