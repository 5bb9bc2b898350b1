"""Work in a process of its own whose memory is measured."""

import ctypes
import os
import resource
import traceback
from contextlib import suppress
from pathlib import Path

from netspec.base.errors import Error


def refusal(work, most=64 << 20):
    """What the Error says that the work raises; "" where it raises none. It may take `most` bytes of memory."""
    taken, said = _tried(work)
    for _ in range(3):  # what takes too much does so each time
        if taken > most:  # or pages of libraries were read, which are not the work's
            taken, said = _tried(work, _read_in)
    assert taken <= most, f"{taken >> 20} MiB"
    return said


def _tried(work, first=lambda: None):
    """The bytes that the work takes, and what it says; first: what is done before they are counted."""
    end, begin = os.pipe()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            _take_heap()
            first()
            before, said = _peak(), ""
            try:
                work()
            except Error as error:
                said = str(error)
            except BaseException:
                said = traceback.format_exc()
            os.write(begin, f"{_peak() - before}\n{said}".encode()[: 1 << 14])
        os._exit(0)
    os.close(begin)
    with open(end) as told:
        taken, _, said = told.read().partition("\n")
    assert os.waitpid(child, 0)[1] == 0 and taken and "Traceback" not in said, said
    return int(taken) << 10, said


def _take_heap():
    """Take what a long session's heap has free, untouched: it would serve the work, without room of its own."""
    libc, block = ctypes.CDLL(None), 1 << 23
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD: what is not free is asked of the system
    lines = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]")]
    ends = [int(end, 16) for line in lines for end in line.split("-")]  # Linux may show a heap in several parts
    while ends and min(ends) <= (libc.malloc(block) or 0) < max(ends):
        pass


def _read_in():
    """Bring all pages of mapped files into this process."""
    advise, populate_read = ctypes.CDLL(None).madvise, 22
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, mode, *_, name = line.split(None, 5)
        if name.strip().startswith("/") and mode.startswith("r"):
            first, last = (int(end, 16) for end in place.split("-"))
            advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), populate_read)


def _peak():
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
