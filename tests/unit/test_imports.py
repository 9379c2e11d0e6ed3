"""The import direction of DESIGN.md: appliance <- router, ssvm, consoleproxy <- controlplane; models stay pure."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("router", "ssvm", "consoleproxy")
OURS = ("appliance", *ROLES, "controlplane", "tests", "tools")
#: what a model or document may import beside the standard library and other models
PURE = ("pydantic", "pydantic_core", "appliance.schema")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything ``path`` imports, also inside functions and under TYPE_CHECKING.

    ``from a.b import c`` counts as ``a.b.c``, for ``c`` may be a module.
    """
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            for name in node.names:
                yield node.lineno, f"{module}.{name.name}"


def below(name: str, *parents: str) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def is_document_or_model(name: str) -> bool:
    """``router.document.X``, ``router.services.nat.model.X`` and the modules themselves; ``appliance`` shares some.

    A part of a service may have a model of its own, as ``router.services.vpn.remote.model``.
    """
    parts = name.split(".")
    return parts[0] in ("appliance", *ROLES) and (
        parts[1:2] == ["document"] or (parts[1:2] == ["services"] and "model" in parts[3:5])
    )


def allowed(path: Path, name: str) -> bool:
    """Whether the file at ``path`` may import ``name``."""
    home = path.relative_to(ROOT).parts[0]
    if not below(name, *OURS):
        return True
    if home == "controlplane":
        return below(name, "appliance", "controlplane") or is_document_or_model(name)
    return below(name, "appliance", home)


def pure(name: str) -> bool:
    """Whether a model or document may import ``name``."""
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or below(name, *PURE) or is_document_or_model(name)


def report(paths: list[Path], permits: object) -> list[str]:
    assert callable(permits)
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for line, name in imports(path)
        if not permits(path, name)
    ]


@pytest.mark.parametrize("folder", ["appliance", *ROLES, "controlplane"])
def test_imports_go_one_way(folder: str) -> None:
    assert report(sources(folder), allowed) == []


def test_documents_and_models_are_pure() -> None:
    documents = [ROOT / role / "document.py" for role in ROLES if (ROOT / role).exists()]
    paths = documents + [
        path for path in sources("appliance", *ROLES) if path.name == "model.py" or path.parent.name == "model"
    ]
    assert len(paths) > 5
    assert report(paths, lambda _, name: pure(name)) == []


def test_the_schema_package_stands_alone() -> None:
    paths = sources("appliance/schema")
    assert len(paths) > 3
    assert report(paths, lambda _, name: pure(name) and not below(name, *ROLES)) == []


def test_appliances_import_pyroute2_by_one_module() -> None:
    """See appliance/rtnetlink.py: threads that begin with different modules of it find it half imported."""
    home = ROOT / "appliance" / "rtnetlink.py"
    paths = [path for path in sources("appliance", *ROLES) if path != home]
    assert not [path for path in paths for _, name in imports(path) if below(name, "pyroute2")]


def normalised(distribution: str) -> str:
    """Its name as indexes and locks have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_image_has_what_appliances_import() -> None:
    """What tools/image installs, locked from the dependency group ``appliance``, covers every third-party import."""
    lock = (ROOT / "image-build/requirements.lock").read_text().splitlines()
    installed = {line.partition("==")[0] for line in lock if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {normalised(name) for name in project["dependency-groups"]["appliance"]} <= installed, "make lock"
    packages = metadata.packages_distributions()
    missing = {
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("appliance", *ROLES)
        for line, name in imports(path)
        if (top := name.partition(".")[0]) not in sys.stdlib_module_names
        and top not in OURS
        and not installed & {normalised(distribution) for distribution in packages.get(top, ())}
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("home", "name", "expected"),
    [
        ("appliance/engine/x.py", "router.document.RouterState", False),
        ("appliance/engine/x.py", "appliance.run.run", True),
        ("appliance/engine/x.py", "controlplane.errors", False),
        ("appliance/engine/x.py", "tests.wait.wait_for", False),
        ("router/services/nat/render.py", "controlplane.convergence", False),
        ("router/services/nat/render.py", "ssvm.document", False),
        ("router/services/nat/render.py", "appliance.engine.service.Rendered", True),
        ("controlplane/compile.py", "router.document.RouterState", True),
        ("controlplane/compile.py", "router.services.nat.model.Nat", True),
        ("controlplane/compile.py", "router.services.nat.render.render", False),
        ("controlplane/compile.py", "router.services.nat", False),
    ],
)
def test_the_rule_itself(home: str, name: str, expected: bool) -> None:
    assert allowed(ROOT / home, name) is expected


def test_relative_and_hidden_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "router" / "services" / "nat" / "model.py"
    path.parent.mkdir(parents=True)
    path.write_text("from .render import x\nfrom ... import document\ndef f():\n    import controlplane.convergence\n")
    assert sorted(name for _, name in imports(path)) == [
        "controlplane.convergence",
        "router.document",
        "router.services.nat.render.x",
    ]
