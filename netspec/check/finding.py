"""What a check has to say: how bad it is, where, what, and the way out."""

from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """level: OK, NOTE or PROBLEM. where: a file, layer or blob. do: the way out, "" where none is needed."""

    level: str
    where: str
    what: str
    do: str = ""
