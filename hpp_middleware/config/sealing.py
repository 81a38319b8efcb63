"""How the file says that the ledger is sealed."""

from pathlib import Path

from hpp_middleware.audit import Sealing
from hpp_middleware.config.sections import LedgerSection
from hpp_middleware.config.values import Context, from_environment, origin
from hpp_middleware.core import ledger
from hpp_middleware.errors import ConfigurationError

__all__ = ["sealing"]

VARIABLE = "HPP_SEAL_KEY"


def sealing(section: LedgerSection, *, directory: Path, context: Context, problems: list[str]) -> Sealing | None:
    """
    The seals' keys and where their heads go; None where there is no key.

    Args:
        section: What the file says.
        directory: Where relative paths begin.
        context: The environment; a key in ``HPP_SEAL_KEY`` is used without a word in the file.
        problems: What is wrong is added here, a line a problem, none of which repeats a key.
    """
    if section.seal_key is None and VARIABLE not in context.environment:
        return None
    if section.seal_key is None and not context.environment[VARIABLE]:
        problems.append(f"ledger.seal_key: the environment variable {VARIABLE} is empty")  # it was meant to be a key
        return None
    key = _key(section.seal_key or f"env:{VARIABLE}", "ledger.seal_key", context, problems)
    previous = [
        _key(value, f"ledger.previous_seal_keys[{index}]", context, problems)
        for index, value in enumerate(section.previous_seal_keys)
    ]
    if not key or not all(previous):
        return None
    try:
        return Sealing(key=key, previous=tuple(previous), heads=directory / section.heads, every_s=section.seal_every_s)
    except ConfigurationError as error:
        problems.append(error.message)
        return None


def _key(value: str, where: str, context: Context, problems: list[str]) -> bytes:
    try:
        key = from_environment(value, context.environment).encode()
    except ValueError as error:
        problems.append(f"{where}: {error}")
        return b""
    if len(key) < ledger.SHORTEST_KEY:
        problems.append(f"{where} must have at least {ledger.SHORTEST_KEY} bytes{origin(value)}")
        return b""
    return key
