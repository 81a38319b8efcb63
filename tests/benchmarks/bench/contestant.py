"""
One contestant, one process: ``python -m bench.contestant NAME UPSTREAM_PORT FOLDER``. Prints its port.

All ASGI apps run on the same server with the same settings: uvicorn, uvloop, httptools.
"""

import argparse
import gc
import socket
from pathlib import Path
from typing import Any

import uvicorn

__all__ = ["NAMES"]

TRANSPORTS = tuple(f"ours-{kind}{over}" for kind in ("native", "aiohttp", "httpx") for over in ("", "-tls"))
NAMES = ("noop", "bare", "bare-sqlite", "naive", "ours", "ours-sqlite", *TRANSPORTS, "rawproxy")


def _noop() -> Any:
    from bench.wire import ANSWER

    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
    }
    body = {"type": "http.response.body", "body": ANSWER}

    async def app(scope: Any, receive: Any, send: Any) -> None:  # ASGI's signature
        await send(start)
        await send(body)

    return app


def _app(given: argparse.Namespace) -> Any:
    upstream = f"http://127.0.0.1:{given.upstream}"
    match given.name:
        case "noop":
            return _noop()
        case "naive":
            from bench import naive

            return naive.build(upstream)
        case "bare" | "bare-sqlite":
            from bench import bare

            return bare.build(upstream, given.folder / "bare.db" if given.name == "bare-sqlite" else None)
        case _:
            from bench import ours, tls
            from hpp_middleware.types.load import Load

            way: dict[str, Any] = {}
            if given.name in TRANSPORTS:
                way["transport"] = given.name.split("-")[1]
            if given.name.endswith("-tls"):
                upstream, way["ca_file"] = tls.authority()
            durable, sizes = given.name == "ours-sqlite", {"entries": given.entries, "consumers": given.consumers}
            load = Load(in_flight=given.in_flight, per_consumer=given.per_consumer, queue=given.queue)
            return ours.build(upstream, folder=given.folder, durable=durable, way=way, load=load, **sizes).app


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("upstream", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--entries", type=int, default=0, help="how long the ledger is at the start")
    parser.add_argument("--consumers", type=int, default=0, help="of how many consumers")
    for name, default in (("--in-flight", 1000), ("--per-consumer", 100), ("--queue", 200)):
        parser.add_argument(name, type=int, default=default, help="see [load]; as it comes")
    given = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    if given.name == "rawproxy":
        import uvloop

        from bench import rawproxy

        uvloop.run(rawproxy.serve(listener, given.upstream))
        return
    gc.set_threshold(10_000, 50, 100)  # for all of them as hpp-router serve has it
    config = uvicorn.Config(
        _app(given),
        loop="uvloop",
        http="httptools",
        lifespan="off" if given.name == "noop" else "on",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
