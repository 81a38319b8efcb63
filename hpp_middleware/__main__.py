"""The command ``hpp-router``, also ``python -m hpp_middleware``."""

import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("typer", "pydantic", "uvicorn")


def main() -> None:
    """Run the command line, and exit with its code."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"hpp-router: {', '.join(missing)} missing; pip install hpp_middleware[cli]\n")
        sys.exit(2)
    from hpp_middleware.cli.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
