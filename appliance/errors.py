"""The errors an appliance reports. Each says what failed and what to do, and names the field where there is one."""

from __future__ import annotations


class GatehouseError(Exception):
    """Base of every error that is meant to be shown to an operator."""


class DocumentError(GatehouseError):
    """A desired-state document was refused before anything changed.

    ``problems`` is a list of ``(field, message)``; ``field`` is a dotted path such as ``nat.forwards.3.ports``.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{field}: {message}" if field else message for field, message in problems))


class CheckFailedError(GatehouseError):
    """A daemon's own checker refused the rendered configuration; nothing was changed."""


class ApplyError(GatehouseError):
    """Making the machine match the document failed; what had been done was undone."""


class ProbeError(GatehouseError):
    """A service does not do what the document asks of it, as seen by using it."""


class CommandError(GatehouseError):
    """A command exited with a non-zero status. Carries the argument list, exit code and standard error."""

    def __init__(self, argv: list[str], code: int, stderr: str) -> None:
        self.argv, self.code, self.stderr = argv, code, stderr
        super().__init__(f"{' '.join(argv)} exited with {code}: {stderr.strip()[-2000:]}")
