"""Jinja2 templates of the services: a missing value is an error, and nothing is escaped (these are not web pages)."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package, "templates"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701  configuration files, where "&lt;" would be wrong
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def fill(package: str, name: str, **values: object) -> str:
    """The text of ``templates/<name>`` of ``package`` with ``values``. Raises jinja2.UndefinedError."""
    return _environment(package).get_template(name).render(values)
