"""
A process of its own with a gateway at a SQLite file: ``PATH``. For each key on its input it prints whom that names, or
the status of the refusal.
"""

import sys

import anyio
import anyio.to_thread

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.errors import GatewayError


async def main(path: str) -> None:
    gateway = Gateway(providers={"fake": Provider(base_url="http://127.0.0.1:9/v1")}, store=SQLiteStore(path))
    async with gateway:
        while key := (await anyio.to_thread.run_sync(sys.stdin.readline)).strip():
            try:
                said = (await gateway.authenticate([(b"apikey", key.encode())])).id
            except GatewayError as error:
                said = str(error.status)
            sys.stdout.write(said + "\n")
            sys.stdout.flush()


anyio.run(main, sys.argv[1])
