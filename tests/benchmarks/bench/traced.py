"""
The gateway asked in this process, and the bytecodes that it runs meanwhile: ``python -m bench.traced PORT KIND``.

Prints, by function of the package, how often it was called and how many bytecodes it ran, a request. One request is
asked after the other, the way a plain server asks, so that each run counts the same. What the C below Python takes is
not in it, nor the server's part.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import MutableMapping
from pathlib import Path
from types import FrameType
from typing import Any

import hpp_middleware
from bench import ours, wire

__all__ = ["CHUNKS", "KINDS"]

WARM, COUNTED = 20, 40
CHUNKS = 100
KINDS = {
    "json": wire.json_question(),
    "stream": wire.stream_question(3, 0, step=1),
    "long": wire.stream_question(3 + CHUNKS, 0, step=1),
}
PACKAGE = str(Path(hpp_middleware.__file__).parent)


class Trace:
    """Counts what the package's own functions run."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytecodes: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """See :func:`sys.settrace`."""
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        name = f"{code.co_filename[len(PACKAGE) + 1 :]} {code.co_qualname}"
        if event == "call":
            self.calls[name] += frame.f_trace is None  # else it goes on where it waited
            frame.f_trace_opcodes = True
        elif event == "opcode":
            self.bytecodes[name] += 1
        return self


class Asked:
    """One request after the other, and the upstream told to go on by each piece of a stream that arrives."""

    def __init__(self, app: Any, body: bytes, steps: asyncio.StreamWriter) -> None:
        self._app = app
        self._body = body
        self._steps = steps

    async def once(self, number: int) -> None:
        """One request, to its end."""
        key = wire.KEYS[number % len(wire.KEYS)]
        named = {"authorization": f"Bearer {key}", "content-type": "application/json", "accept": "*/*"}
        headers = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in named.items())]
        scope = {"type": "http", "method": "POST", "path": wire.PATH, "http_version": "1.1", "root_path": ""}
        received: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        received.put_nowait({"type": "http.request", "body": self._body, "more_body": False})
        status = 0

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            if message.get("more_body"):
                self._steps.write((1).to_bytes(4, "big"))

        await self._app({**scope, "headers": headers}, received.get, send)
        if status != 200:
            raise RuntimeError(f"it answered {status}")


async def counted(upstream: int, kind: str, folder: Path) -> Trace:
    """What a kind of request takes."""
    gateway, trace = ours.build(f"http://127.0.0.1:{upstream}", folder=folder, durable=False), Trace()
    _, steps = await asyncio.open_connection("127.0.0.1", upstream)
    steps.write(wire.STEPS)
    asked = Asked(gateway.app, KINDS[kind], steps)
    async with gateway:
        for number in range(WARM):
            await asked.once(number)
        sys.settrace(trace)
        task = asyncio.ensure_future(_times(asked))
        await task
        sys.settrace(None)
    steps.close()
    return trace


async def _times(asked: Asked) -> None:
    for number in range(COUNTED):
        await asked.once(number)


def main() -> None:
    """Count, and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream", type=int)
    parser.add_argument("kind", choices=KINDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace = asyncio.run(counted(given.upstream, given.kind, Path(folder)))
    found = {name: (trace.calls[name] / COUNTED, run / COUNTED) for name, run in trace.bytecodes.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
