"""Work in a process of its own whose memory is measured."""

import os
import resource
import traceback
from contextlib import suppress

from netspec.base.errors import Error


def refusal(work, most=64 << 20):
    """What the Error says that the work raises; "" where it raises none. It may take `most` bytes of memory."""
    end, begin = os.pipe()
    child = os.fork()
    if not child:
        before, said = _peak(), ""
        with suppress(BaseException):
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
    assert int(taken) << 10 <= most, f"{int(taken) >> 10} MiB"
    return said


def _peak():
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
