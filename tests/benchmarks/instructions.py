"""
Whether the pure core has become slower: instructions, which are the same at each run, where times are not.

    python tests/benchmarks/instructions.py [--update]

Counts with valgrind's callgrind what each function of :mod:`bench.pure` takes, and compares that with what
``instructions.json`` has for this version of Python. Fails where anything takes 10% more; ``--update`` writes the new
figures down.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench.report import table
from bench.revisions import ROOT

BASELINE = Path(__file__).with_name("instructions.json")
MOST = 1.10
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def counted(folder: Path) -> dict[str, int]:
    """Instructions a call, by function."""
    here = Path(__file__).parent
    target = folder / "counted"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={target}", "--dump-before=getloadavg"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(here)]),
    }
    done = subprocess.run(
        [*command, sys.executable, str(here / "bench" / "pure.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"valgrind failed:\n{done.stderr[-2000:]}")
    found = {}
    for number, (name, times) in enumerate(json.loads(done.stdout)):
        once, twice = (_total(target.with_suffix(f".{3 * number + each}")) for each in (2, 3))
        found[name] = round((twice - once) / times)
    return found


def _total(path: Path) -> int:
    match = re.search(r"^(?:totals|summary): (\d+)", path.read_text("utf-8", "replace"), re.MULTILINE)
    if match is None:
        raise SystemExit(f"callgrind wrote no total into {path.name}")
    return int(match[1])


def compared(found: dict[str, int], known: dict[str, int]) -> tuple[str, list[str]]:
    """A table, and what has become slower."""
    rows, slower = [], []
    for name, count in found.items():
        before = known.get(name)
        change = f"{count / before - 1:+.1%}" if before else "new"
        rows.append([name, f"{before:,}" if before else "", f"{count:,}", change])
        if before and count > before * MOST:
            slower.append(f"{name}: {change}")
    return table(["instructions a call", "baseline", "now", "change"], rows), slower


def main() -> None:
    """Count, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the new figures down")
    update = parser.parse_args().update
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (apt-get install valgrind)")
    baseline = json.loads(BASELINE.read_text("utf-8")) if BASELINE.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        found = counted(Path(folder))
    known = baseline.get(PYTHON, {})
    text, slower = compared(found, known.get("instructions", {}))
    versions = {"msgspec": version("msgspec")}
    print(f"Python {PYTHON}, msgspec {versions['msgspec']}\n\n{text}")
    if known and known["versions"] != versions:
        print(f"\nThe baseline is of {known['versions']}: a difference may be theirs.")
    if update:
        baseline[PYTHON] = {"versions": versions, "instructions": found}
        BASELINE.write_text(json.dumps(baseline, indent=2, sort_keys=True) + "\n", "utf-8")
        return
    if not known:
        raise SystemExit(f"there is no baseline for Python {PYTHON}: run it with --update")
    if slower:
        raise SystemExit("slower by more than 10%: " + "; ".join(slower))


if __name__ == "__main__":
    main()
