"""How exposed each unit of the image is, by systemd-analyze(1) from the units' files: nothing has to boot for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from appliance.engine.service import Rendered, Unit
from appliance.engine.systemd import PREFIX, definition
from appliance.run import run
from appliance.settings import Settings
from consoleproxy.document import ConsoleProxyState
from consoleproxy.services.console.render import render as render_console
from consoleproxy.services.dns.render import render as render_names
from router.document import RouterState
from router.services.dhcp.service import SERVICE as DHCP
from router.services.loadbalancer.service import SERVICE as LOADBALANCER
from router.services.metadata.service import SERVICE as METADATA
from router.services.password.service import SERVICE as PASSWORD
from router.services.vpn.model import Vpn
from router.services.vpn.plane import KERNEL
from router.services.vpn.remote import l2tp
from router.services.vpn.render import render as render_vpn
from ssvm.services.storage.render import render as render_storage
from tests.documents import small_state
from tests.unit.consoleproxy.services.console.test_render import small_state as console_state
from tests.unit.router.services.loadbalancer.documents import balanced_state
from tests.unit.router.services.vpn.remote.test_ike import access
from tests.unit.ssvm.states import state as storage_state

ROOT = Path(__file__).resolve().parents[3]
IMAGE = ROOT / "image-build/overlay/usr/lib/systemd/system"
#: below this a unit's exposure is "OK"
OK_BELOW = 5.0


def units() -> dict[str, Unit]:
    """Every unit that documents ask for, by the name of its file."""
    settings = Settings()
    router = RouterState.model_validate(small_state())
    names = {"domain": "console.example", "ranges": [{"first": "203.0.113.10", "last": "203.0.113.20"}]}
    proxy = ConsoleProxyState.model_validate(console_state() | {"dns": names})
    rendered: Iterable[Rendered] = (
        DHCP.render(router, settings),
        METADATA.render(router, settings),
        PASSWORD.render(router, settings),
        LOADBALANCER.render(RouterState.model_validate(balanced_state()), settings),
        render_vpn(Vpn(remote=(access(),)), settings, KERNEL),
        l2tp.render([access()], settings),
        render_console(proxy, settings),
        render_names(proxy, settings),
        render_storage(storage_state(), settings),
    )
    return {f"{PREFIX}{unit.name}.service": unit for part in rendered for unit in part.units}


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("units")
    for path in IMAGE.glob("*.service"):
        (folder / path.name).write_text(path.read_text())
    for name, unit in units().items():
        (folder / name).write_text(definition(unit))
    files = sorted(map(str, folder.iterdir()))
    shown = run(["systemd-analyze", "security", "--offline=true", "--no-pager", *files], check=False).stdout
    found = re.findall(r"^\S+ Overall exposure level for (\S+): (\d+\.\d+)", shown, re.MULTILINE)
    assert {name for name, _ in found} == {Path(file).name for file in files}
    return {name: float(value) for name, value in found}


def test_no_unit_of_the_sources_is_missing_here() -> None:
    sources = (path.read_text() for role in ("router", "ssvm", "consoleproxy") for path in (ROOT / role).rglob("*.py"))
    assert sum(len(re.findall(r"\bUnit\(\n", text)) for text in sources) == len(units())


def test_every_unit_is_in_the_ok_range(exposures: dict[str, float]) -> None:
    assert {name: value for name, value in exposures.items() if value >= OK_BELOW} == {}


def test_the_exposure_of_each_is_written_down(exposures: dict[str, float]) -> None:
    rows = re.findall(r"^\| (gatehouse-\S+) \| (\S+) \|", (ROOT / "image-build/SECURITY.md").read_text(), re.MULTILINE)
    wanted = {re.sub(r"-\d+\.\d+\.\d+\.\d+", "-*", name): value for name, value in exposures.items()}
    assert {name for name, _ in rows} == wanted.keys()
    # other versions of systemd weigh some settings otherwise
    assert {name: value for name, value in rows if abs(float(value) - wanted[name]) > 0.4} == {}
