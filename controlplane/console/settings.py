"""Settings of consoles and of the system VMs that serve them, read for a zone in one piece."""

from __future__ import annotations

from controlplane.setting import Setting

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"(\*\.)?({_LABEL}\.)+{_LABEL}|"
_DOMAIN_FORM = "a domain name in lower case such as *.console.example.com, or nothing"
_ORIGIN = r"https?://[a-z0-9.-]+(:[0-9]{1,5})?"
_ANCESTOR = rf"'self'|https?://\*\.[a-z0-9.-]+(:[0-9]{{1,5}})?|{_ORIGIN}"

CONSOLE_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "consoleproxy.disabled",
        "Console Proxy",
        "false",
        "Boolean",
        "There are no consoles, and no console proxies for them",
        ("zone",),
    ),
    Setting(
        "consoleproxy.minimum",
        "Console Proxy",
        "0",
        "Integer",
        "Console proxies that a zone has though nobody watches; with 0 the first console asked for starts one",
        ("zone",),
        minimum=0,
        maximum=100,
    ),
    Setting(
        "consoleproxy.launch.max",
        "Console Proxy",
        "10",
        "Integer",
        "Console proxies that a zone may have",
        ("zone",),
        minimum=1,
        maximum=1000,
    ),
    Setting(
        "consoleproxy.session.max",
        "Console Proxy",
        "50",
        "Integer",
        "Consoles that one console proxy shows at the same time",
        ("zone",),
        minimum=1,
        maximum=10000,
    ),
    Setting(
        "consoleproxy.capacity.standby",
        "Console Proxy",
        "10",
        "Integer",
        "Consoles for which there is always room while there are console proxies: another starts before they are full",
        ("zone",),
        minimum=0,
        maximum=10000,
    ),
    Setting(
        "consoleproxy.loadscan.interval",
        "Console Proxy",
        "10000",
        "Integer",
        "Milliseconds between two looks at the load of the console proxies",
        minimum=100,
    ),
    Setting(
        "consoleproxy.idle.wait",
        "Console Proxy",
        "1800",
        "Integer",
        "Seconds after which a console proxy that nobody needs is removed",
        ("zone",),
        minimum=0,
    ),
    Setting(
        "consoleproxy.restart.wait",
        "Console Proxy",
        "60",
        "Integer",
        "Seconds without an answer after which a console proxy is restarted; after twice that it is replaced",
        ("zone",),
        minimum=1,
    ),
    Setting(
        "consoleproxy.session.timeout",
        "Console Proxy",
        "1800000",
        "Integer",
        "Milliseconds without a key, a pointer's move or a paste after which a console is closed; 0: never",
        ("zone",),
        minimum=0,
    ),
    Setting(
        "consoleproxy.session.length",
        "Console Proxy",
        "0",
        "Integer",
        "Seconds after which a console is closed whatever happens in it; 0: never",
        ("zone",),
        minimum=0,
        maximum=31536000,
    ),
    Setting(
        "consoleproxy.session.bind.address",
        "Console Proxy",
        "false",
        "Boolean",
        "A console opens only at the address that it was asked for from",
        ("zone",),
    ),
    Setting(
        "consoleproxy.session.clipboard",
        "Console Proxy",
        "true",
        "Boolean",
        "Text may be copied to and from consoles",
        ("account", "domain", "zone"),
    ),
    Setting(
        "consoleproxy.session.record",
        "Console Proxy",
        "false",
        "Boolean",
        "Consoles are recorded, and say so on the screen",
        ("account", "domain", "zone"),
    ),
    Setting(
        "consoleproxy.recording.age",
        "Console Proxy",
        "2592000",
        "Integer",
        "Seconds that recordings are kept",
        ("zone",),
        minimum=60,
        maximum=31536000,
    ),
    Setting(
        "max.account.console.sessions",
        "Account Defaults",
        "20",
        "Integer",
        "Consoles that an account may have open or asked for at the same time; -1 for no limit",
        ("account", "domain"),
    ),
    Setting(
        "consoleproxy.url.domain",
        "Console Proxy",
        "",
        "String",
        "Domain of the console proxies' names, *.domain for aaa-bbb-ccc-ddd.domain; without it they are addresses",
        pattern=_DOMAIN,
        form=_DOMAIN_FORM,
    ),
    Setting(
        "consoleproxy.origins",
        "Console Proxy",
        "",
        "String",
        "Origins, separated by commas, of pages that may open consoles beside the proxy's own page",
        pattern=rf"({_ORIGIN})(\s*,\s*({_ORIGIN}))*|",
        form="origins such as https://cloud.example.com, separated by commas",
    ),
    Setting(
        "consoleproxy.frame.ancestors",
        "Console Proxy",
        "",
        "String",
        "Origins, separated by commas, of pages that may show consoles in a frame",
        pattern=rf"({_ANCESTOR})(\s*,\s*({_ANCESTOR}))*|",
        form="'self' and origins such as https://cloud.example.com or https://*.example.com, separated by commas",
    ),
    Setting(
        "secstorage.ssl.cert.domain",
        "Secondary Storage",
        "",
        "String",
        "Domain of the secondary storage VMs' names, *.domain for aaa-bbb-ccc-ddd.domain; else they are addresses",
        pattern=_DOMAIN,
        form=_DOMAIN_FORM,
    ),
)


def words(text: str) -> tuple[str, ...]:
    """The entries of a setting that is a list."""
    return tuple(part for word in text.split(",") if (part := word.strip()))
