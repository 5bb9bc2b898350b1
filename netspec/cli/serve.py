"""`netspec serve`: nets, runs and data in the browser."""

import argparse
import getpass
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import Error
from ..base.files import staging
from .finding import find_net, find_weights, is_weights
from .options import add_trust_argument, note
from .terminal import say

if TYPE_CHECKING:
    from ..web.desk import Pair

PASSWORD = "NETSPEC_PASSWORD"  # the environment variable
LOCAL = "127.0.0.1", "localhost", "::1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="NET WEIGHTS|FOLDER",
                        help="nets to try, each with its weights behind it (default: what `netspec weights` "
                        "has of its name), and folders, of runs, images, nets: their files alone can be "
                        "opened")
    parser.add_argument("--host", default=LOCAL[0], help="where the page can be seen (default: this machine "
                        "alone)")
    parser.add_argument("--port", type=int, default=7860, metavar="P", help="default 7860; 0: a free one")
    parser.add_argument("--auth", metavar="USER", help="ask for this name, and a password: that of the "
                        f"environment's {PASSWORD}, or one that is asked for now")
    parser.add_argument("--pixels", type=float, default=40, metavar="M",
                        help="millions of pixels that an image may have (default 40)")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..web.commands import Commands
    from ..web.desk import Desk
    from ..web.folders import Folders
    from ..web.page import prepare, serve
    from .main import main

    if not 0 <= args.port < 1 << 16:
        raise Error(f"--port {args.port}: is from 0 to 65535")
    if not 0 < args.pixels < math.inf:
        raise Error(f"--pixels {args.pixels:g}: is a number above 0, of millions")
    pairs, named = _named(args.what)
    folders = Folders([*(Path(part) for pair in pairs for part in pair), *named])
    if args.host not in LOCAL and not args.auth:
        raise Error(f"--host {args.host} shows the page, and every file in its folders, to whoever reaches "
                    "this machine: give --auth USER with it")
    auth = (args.auth, _password()) if args.auth else None
    if args.host not in LOCAL:
        note(f"the page, and every file in its folders, can be seen by whoever reaches {args.host} and knows "
             "the password")
    with staging(Path(tempfile.gettempdir()) / "netspec-serve") as temporary:
        prepare(temporary)
        with closing(Commands(main, args.trust)) as commands:
            desk = Desk(commands, folders, pairs, temporary, args.pixels)
            serve(desk, args.host, args.port, auth,
                  lambda where: say(f"the page is at {where} (Ctrl-C ends it)"))
    return 0


def _named(words: Sequence[str]) -> tuple[list["Pair"], list[Path]]:
    """The nets with their weights, and the folders, that words mean."""
    from ..web.desk import Pair

    pairs, folders, rest = list[Pair](), list[Path](), list(words)
    while rest:
        word = rest.pop(0)
        if os.path.isdir(word):
            folders.append(Path(word))
            continue
        if is_weights(word) and word.endswith((".caffemodel", ".h5")):
            raise Error(f"{word} holds weights, and stands behind no net: netspec serve NET WEIGHTS")
        net = find_net(word, "deploy")
        given = rest.pop(0) if rest and is_weights(rest[0]) else None
        pairs.append(Pair(str(net), str(find_weights(given, net))))
    return pairs, folders


def _password() -> str:
    if given := os.environ.get(PASSWORD):
        return given
    if not sys.stdin.isatty():
        raise Error(f"--auth needs a password: set {PASSWORD}, or start this at a terminal, which is asked")
    if given := getpass.getpass("password for the page: "):
        return given
    raise Error("--auth needs a password that is not empty")
