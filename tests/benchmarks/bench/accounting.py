"""CPU time and memory of other processes, by the kernel's own books: nanoseconds, all threads, ended ones too."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

__all__ = ["cores", "cpu_ns", "disk_ms", "every_core", "machine", "resident_mb", "user_part"]


def cpu_ns(pids: Sequence[int]) -> int:
    """CPU time that these processes have used so far; Linux adds what runs just now at its next tick, in 1 to 4 ms."""
    return sum(_cpu_ns(pid) for pid in pids)


def _cpu_ns(pid: int) -> int:
    try:
        return time.clock_gettime_ns((~pid) << 3 | 2)  # what Linux's clock_getcpuclockid(3) computes
    except OSError:  # another system: its own figure, as fine as it is
        times = psutil.Process(pid).cpu_times()
        return int((times.user + times.system) * 1e9)


def user_part(pids: Sequence[int]) -> tuple[float, float]:
    """Seconds in user space and in the kernel, in the system's ticks."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user for each in times), sum(each.system for each in times)


def resident_mb(pids: Sequence[int]) -> float:
    """Resident memory."""
    return sum(float(psutil.Process(pid).memory_info().rss) for pid in pids) / 1e6


def cores() -> tuple[int, int]:
    """The core for everything around the gateway, and the gateway's own; the same one where there is no other."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return allowed[0], allowed[-1]


def every_core() -> set[int]:
    """All that are allowed; but for the one around the gateway, where there are more than two."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return set(allowed[1:] if len(allowed) > 2 else allowed)


def disk_ms(folder: Path, times: int = 200) -> tuple[float, float]:
    """The median and the ninth decile of an ``fdatasync`` after a small write."""
    waited = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            waited.append(time.perf_counter() - begun)
    waited.sort()
    return 1000 * waited[times // 2], 1000 * waited[times * 9 // 10]


def machine() -> dict[str, str]:
    """What it was measured on."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:
        return []
