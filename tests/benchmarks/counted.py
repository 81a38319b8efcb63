"""
What a request takes of a whole server, in instructions: nearly the same at each run, on however busy a machine.

    python tests/benchmarks/counted.py [--base REV] [--only json,stream] [--contestants noop,ours]

Each contestant runs under valgrind's callgrind, is warmed up, and is asked over 32 connections; what it executed
meanwhile is divided by the requests. The kernel's part is not in it, nor what caches and memory add to the time.
"""

import argparse
import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench import wire
from bench.accounting import cores
from bench.contestants import connected
from bench.processes import Loader, module, running, told
from bench.report import table
from bench.revisions import package_of

CONNECTIONS = 32
WARM, COUNTED = 5, 20
ASKED = {
    "json": ("a JSON request", wire.json_question()),
    "stream": ("a stream of 3 events", wire.stream_question(3, 0)),
}
START_S = 300
"""Under valgrind, and beside other work, a gateway takes a minute to start."""

MOST_BROKEN, PAUSE_S = 5, 0.5
"""On a machine that does much else, connections break that nobody has closed; so many in a row are no accident."""


async def ask(port: int, body: bytes, times: int) -> None:
    """So many requests over each of the connections; one that breaks is opened again, and the request asked anew."""
    await asyncio.gather(*[_connection(port, body, times, number) for number in range(CONNECTIONS)])


async def _connection(port: int, body: bytes, times: int, number: int) -> None:
    request = wire.request(body, wire.KEYS[number % len(wire.KEYS)])
    left, broken = times, 0
    while left:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while left:
                writer.write(request)
                await _answer(reader)
                left, broken = left - 1, 0
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            broken += 1
            if broken > MOST_BROKEN:
                raise SystemExit(f"{broken} connections in a row broke: {error!r}") from error
            await asyncio.sleep(PAUSE_S)
        finally:
            if writer is not None:
                writer.close()


async def _answer(reader: asyncio.StreamReader) -> None:
    """The whole of one."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"it answered {head[:200]!r}")
    length = re.search(rb"content-length: (\d+)", head)
    if length is not None:
        await reader.readexactly(int(length[1]))
    else:
        await reader.readuntil(b"\r\n0\r\n\r\n")


def count(contestant: str, kinds: list[str], upstream: int, folder: Path) -> dict[str, int]:
    """Instructions a request, by its kind."""
    target = folder / "callgrind"
    valgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={target}"]
    command = [*valgrind, *module("bench.contestant", contestant.partition("@")[0], upstream, folder)]
    found = {}
    with running(command, core={cores()[1]}, package=package_of(contestant, folder)) as process:
        port = int(told(process))
        connected(port, START_S).close()
        for number, kind in enumerate(kinds, start=1):
            body = ASKED[kind][1]
            asyncio.run(ask(port, body, WARM))
            control("-z", process.pid)
            asyncio.run(ask(port, body, COUNTED))
            control("-d", process.pid)
            found[kind] = total(target.with_suffix(f".{number}")) // (COUNTED * CONNECTIONS)
    return found


def control(option: str, pid: int) -> None:
    """Have callgrind begin to count, or write down what it has counted."""
    done = subprocess.run(["callgrind_control", option, str(pid)], capture_output=True, text=True, check=False)
    if "OK" not in done.stdout:
        raise SystemExit(f"callgrind_control {option}: {done.stdout}{done.stderr}")


def total(path: Path) -> int:
    """What a dump sums up to, when it has been written."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        match = (
            re.search(r"^totals: (\d+)", path.read_text("utf-8", "replace"), re.MULTILINE) if path.exists() else None
        )
        if match is not None:
            return int(match[1])
        time.sleep(0.1)
    raise SystemExit(f"callgrind wrote no total into {path.name}")


def main() -> None:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a revision to compare with")
    parser.add_argument("--only", default="json,stream", help=f"of {', '.join(ASKED)}")
    parser.add_argument("--contestants", default="noop,naive,ours,ours-sqlite")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed: apt-get install valgrind")
    contestants, kinds = given.contestants.split(","), given.only.split(",")
    if given.base:
        contestants += [f"{name}@{given.base}" for name in contestants if name.startswith("ours")]
    rows = []
    with tempfile.TemporaryDirectory() as name, Loader() as loader:
        for contestant in contestants:
            folder = Path(name) / contestant
            folder.mkdir()
            answerable = [kind for kind in kinds if kind == "json" or contestant != "noop"]
            found = count(contestant, answerable, loader.upstream, folder)
            rows.append([contestant, *(f"{found[kind]:,}" if kind in found else "" for kind in kinds)])
    print(table(["instructions", *(ASKED[kind][0] for kind in kinds)], rows))


if __name__ == "__main__":
    main()
