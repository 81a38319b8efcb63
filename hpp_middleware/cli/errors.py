"""What becomes of a command's errors: lines on stderr, and an exit code."""

import sys
import traceback
from collections.abc import Callable

from hpp_middleware.cli.common import Fault
from hpp_middleware.errors import ConfigurationError, GatewayError, NotOpenedError

__all__ = ["guarded"]


def guarded(command: Callable[[], object]) -> int:
    """Run a command to its end, and give the exit code: 2 for a wrong configuration, 1 for anything else."""
    try:
        command()
    except ConfigurationError as error:
        return _fault(error.message, 2)
    except NotOpenedError as error:
        return _fault(str(error), 1)
    except (Fault, GatewayError) as error:
        why = error.__cause__  # ours have fixed texts, foreign ones may say anything
        return _fault(f"{error.message} {why.message}" if isinstance(why, GatewayError) else error.message, 1)
    except OSError as error:
        return _fault(f"{error.filename or 'system'}: {error.strerror or type(error).__name__}", 1)
    except Exception as error:  # noqa: BLE001  # the last resort: where it happened, and no text that may hold a secret
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _fault(f"unexpected {type(error).__name__} at {place.filename}:{place.lineno}", 1)
    return 0


def _fault(message: str, code: int) -> int:
    for line in message.split("\n"):
        sys.stderr.write(f"hpp-router: {line}\n")
    return code
