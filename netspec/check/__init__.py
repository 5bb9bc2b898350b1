"""What is wrong with a net, its weights, its data, a script: how bad it is, where, what, and the way out."""

from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Finding(NamedTuple):
    """level: OK, NOTE or PROBLEM. where: a file, layer or blob. do: the way out, "" where none is needed."""

    level: str
    where: str
    what: str
    do: str = ""
