"""How fast this machine's time stamp counter runs: what an emulated host can't find out by itself on a busy machine."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable

# rdtsc; shl rdx, 32; or rax, rdx; ret
_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_SECONDS = 0.2


def _reading(counter: Callable[[], int]) -> tuple[int, int]:
    """Nanoseconds and the counter at the same moment: of some readings the one that was interrupted least."""
    readings = []
    for _ in range(20):
        before = time.monotonic_ns()
        ticks = counter()
        after = time.monotonic_ns()
        readings.append((after - before, before, ticks))
    took, before, ticks = min(readings)
    return before + took // 2, ticks


def tsc_khz() -> int | None:
    """Its kilohertz, whatever else the machine does; None where a program may not make code of its own."""
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(_CODE)
            holder = ctypes.c_char.from_buffer(page)
            counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(holder))
            begin = _reading(counter)
            time.sleep(_SECONDS)
            end = _reading(counter)
            # The page can't be closed while something refers to it.
            del counter, holder
    except OSError:
        return None
    return round((end[1] - begin[1]) * 1_000_000 / (end[0] - begin[0]))
