"""A small binding to libnftables (libnftables(3)): run nft syntax text in one atomic transaction, get text back.

Every call uses a fresh context: the library keeps a cache of the whole ruleset in a context, which would cost tens
of megabytes between two changes, and making one takes well under a millisecond.
"""

from __future__ import annotations

import ctypes
from functools import cache

# include/nftables/libnftables.h
_OUTPUT_STATELESS = 1 << 2
_OUTPUT_NUMERIC_PROTO = 1 << 7
_OUTPUT_NUMERIC_PRIO = 1 << 8
_OUTPUT_NUMERIC_SYMBOL = 1 << 9
_INPUT_NO_DNS = 1 << 0


class NftError(Exception):
    """libnftables or the kernel refused a command; the text names the line and the reason."""


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libnftables.so.1", use_errno=True)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
    for name, result, arguments in (
        ("nft_ctx_new", pointer, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [pointer]),
        ("nft_ctx_buffer_output", ctypes.c_int, [pointer]),
        ("nft_ctx_buffer_error", ctypes.c_int, [pointer]),
        ("nft_ctx_get_output_buffer", text, [pointer]),
        ("nft_ctx_get_error_buffer", text, [pointer]),
        ("nft_ctx_set_dry_run", None, [pointer, ctypes.c_bool]),
        ("nft_ctx_output_set_flags", None, [pointer, number]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [pointer, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    if hasattr(library, "nft_ctx_input_set_flags"):
        library.nft_ctx_input_set_flags.restype = number
        library.nft_ctx_input_set_flags.argtypes = [pointer, number]
    return library


def run(commands: str, *, dry_run: bool = False, stateless: bool = False) -> str:
    """Run ``commands`` in the caller's network namespace, all of them or none; returns what they print.

    ``dry_run`` has the kernel check the transaction and then drop it. ``stateless`` leaves counters out of
    listings. Raises NftError.
    """
    library = _library()
    context = library.nft_ctx_new(0)
    if not context:
        raise NftError("libnftables gave no context; is nf_tables in this kernel?")
    try:
        if library.nft_ctx_buffer_output(context) or library.nft_ctx_buffer_error(context):
            raise NftError("libnftables cannot buffer its output: out of memory")
        library.nft_ctx_set_dry_run(context, dry_run)
        flags = _OUTPUT_NUMERIC_PROTO | _OUTPUT_NUMERIC_PRIO | _OUTPUT_NUMERIC_SYMBOL
        library.nft_ctx_output_set_flags(context, flags | (_OUTPUT_STATELESS if stateless else 0))
        if hasattr(library, "nft_ctx_input_set_flags"):  # since 1.0.8: spares getaddrinfo() for each address
            library.nft_ctx_input_set_flags(context, _INPUT_NO_DNS)
        failed = library.nft_run_cmd_from_buffer(context, commands.encode())
        errors: bytes = library.nft_ctx_get_error_buffer(context) or b""
        if failed:
            raise NftError(_reasons(errors.decode(errors="replace")))
        output: bytes = library.nft_ctx_get_output_buffer(context) or b""
        return output.decode()
    finally:
        library.nft_ctx_free(context)


def _reasons(errors: str) -> str:
    # below each reason the library quotes the buffer's first line, whichever line is wrong
    reasons = [line.removeprefix("Error: ") for line in errors.splitlines() if line.startswith("Error:")]
    return "; ".join(reasons[:10]) or errors.strip()[:1000] or "no reason given"
