"""
The gateway alone, with no host: accounts in a SQLite file, and a key made at the first start.

    python examples/standalone.py

It prints a key, and serves on PORT (8000). What was spent, and the key, outlive the process: they are in HPP_DB
(``hpp.db``), and only the first start prints the key. The model is an echo in this process. OPENAI_BASE_URL,
OPENAI_API_KEY and OPENAI_MODEL name a real one. ``hpp-router serve`` does the same with a configuration file.
"""

import os

import anyio
import uvicorn

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.cli.echo import Echo

BASE_URL = os.environ.get("OPENAI_BASE_URL")
API_KEY = os.environ.get("OPENAI_API_KEY") or None
MODEL = "upstream/" + os.environ.get("OPENAI_MODEL", "echo")
PORT = int(os.environ.get("PORT", "8000"))

gateway = Gateway(
    store=SQLiteStore(os.environ.get("HPP_DB", "hpp.db")),
    providers={"upstream": Provider(base_url=BASE_URL or "http://in-this-process", api_key=API_KEY)},
    transports={} if BASE_URL else {"upstream": Echo()},
    models={MODEL: {"input": "0.50", "output": "1.50"}},  # dollars a million tokens
)
app = gateway.app


async def first_key() -> None:
    """A key with five dollars, if there is none yet."""
    async with gateway:
        if not await gateway.accounts.keys():
            made = await gateway.accounts.create_key("alice", quota="5.00")
            print(f"the key of {made.consumer}, shown this once: {made.key}", flush=True)


if __name__ == "__main__":
    anyio.run(first_key)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
