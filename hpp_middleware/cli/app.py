"""The commands together, and what becomes of their errors."""

import sys
import traceback

import typer

from hpp_middleware.cli import demo, keys, ledger, models, quota, serve
from hpp_middleware.cli.common import Fault
from hpp_middleware.errors import ConfigurationError, GatewayError, NotOpenedError

__all__ = ["app", "run"]

app = typer.Typer(
    name="hpp-router",
    help="An OpenAI-compatible LLM gateway with prepaid quota.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("usage")(quota.usage)
app.command("models")(models.models)
app.add_typer(keys.app, name="keys")
app.add_typer(quota.app, name="quota")
app.add_typer(ledger.app, name="ledger")


def run() -> int:
    """Run the command that the arguments name, and give the exit code."""
    try:
        app(prog_name="hpp-router")
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
