"""`netspec weights`: published weights by the name of their net, and those that are here."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import names
from ..base.errors import Error, count, listed
from ..base.files import find
from ..base.machine import amount
from ..base.table import table
from ..data import zoo
from .options import wrote
from .terminal import asked, meter, say, show

if TYPE_CHECKING:
    from ..data.zoo import Source

PAGE = """# Published weights

What `netspec weights get NAME` gets, made of data/weights.json by `make pages`. Mean IU: of the release, on
seg11valid, in percent. Where no checksum is published, `get` asks first (`--trust-first`), keeps the sha256
of what came, and holds later files to it. Weights that lie at no address, or that another machine got, come
in by `netspec weights add NAME FILE`. `netspec infer NAME IMAGE` then finds them.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (f"The weights folder is {zoo.folder()}: NETSPEC_WEIGHTS, else weights/ in a clone, else "
                     "in the user's cache folder.")
    choice = parser.add_subparsers(metavar="WHAT")
    parser.set_defaults(what=_list, markdown=False)

    def kind(what: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = choice.add_parser(what, help=text, description=f"{text[0].upper()}{text[1:]}.")
        one.set_defaults(what=function)
        return one

    listing = kind("list", _list, "what there is, and what is here (as without WHAT)")
    listing.add_argument("--markdown", action="store_true", help="the page docs/zoo.md")
    get = kind("get", _get, "download, check, and put into the weights folder")
    get.add_argument("names", metavar="NAME", nargs="+", help="of a net, or all")
    check = kind("check", _check, "compare what is here with its checksums")
    check.add_argument("names", metavar="NAME", nargs="*", help="default: all that are here")
    add = kind("add", _add, "take in a file that is here, if it fits the net")
    add.add_argument("name", metavar="NAME")
    add.add_argument("file", metavar="FILE")
    where = kind("where", _where, "the file of a name; exit status 1 if it is not here")
    where.add_argument("name", metavar="NAME")
    for one in (get, add):
        one.add_argument("--from", dest="framework", default="caffe", metavar="FRAMEWORK",
                         help="of whose making: caffe (default), torchvision or keras, converted")
    get.add_argument("--trust-first", action="store_true",
                     help="also what has no published checksum: what comes is kept, and held to")


def run(args: argparse.Namespace) -> int:
    return args.what(args)


def _list(args: argparse.Namespace) -> int:
    known = zoo.table()
    if args.markdown:
        show(_page().rstrip("\n"))
        return 0
    rows: list[list[str | None]] = []
    for name in _names():
        path = zoo.here(name)
        if name in known or path:
            said = known[name].sources[0] if name in known else None
            rows.append([name, amount(path.stat().st_size) if path else None, said and said.size,
                         said and ("" if said.checksums else "no checksum"), said and said.terms])
    show(table(rows, ["", "here", "published", "", "terms"]))
    say("", f"in {zoo.folder()}; 'netspec weights get NAME' gets one")
    return 0


def _names() -> list[str]:
    return list(dict.fromkeys([*zoo.table(), *sorted(names.nets())]))


def _page() -> str:
    from ..papers.published import RELEASED

    rows = []
    for name, known in zoo.table().items():
        score = RELEASED.get(name, (None,) * 3)[2]
        for source in known.sources:
            kinds = ", ".join(checksum.partition(":")[0] for checksum in source.checksums) or "none published"
            where = ", ".join(f"<{url}>" for url in source.urls or [source.site])
            rows.append([name if source == known.sources[0] else f"{name} `--from {source.framework}`",
                         known.gives, "" if score is None else str(score), where, source.size, kinds,
                         source.terms, source.stated_by])
    heads = ["name", "gives", "mean IU", "address", "size", "checksum", "terms", "stated by"]
    return PAGE + "".join(f"| {' | '.join(row)} |\n" for row in (heads, ["---"] * len(heads), *rows))


def _get(args: argparse.Namespace) -> int:
    known = zoo.table()
    published = [name for name in known for source in known[name].sources
                 if source.framework == args.framework and source.urls]
    wanted = published if args.names == ["all"] else args.names
    failed = []
    for name in wanted:
        try:
            get(name, args.framework, args.trust_first)
        except Error as error:
            if len(wanted) == 1:
                raise
            failed.append(name)
            say(f"netspec weights: {error}", file=sys.stderr)
    if failed:
        raise Error(f"{len(failed)} of {count(len(wanted), 'file')} did not come: {listed(failed)}")
    return 0


def get(name: str, framework: str = "caffe", trust: bool = False) -> Path:
    """Download the weights of a name, unless they are here, and check them. Raises Error."""
    source, path = zoo.source(name, framework), zoo.folder() / f"{name}{zoo.ENDINGS[0]}"
    if there := zoo.stored(name):
        say(f"{there}: there, {zoo.checked(name, there, meter)}")
        return there
    if not source.urls:
        raise Error(f"{name}: {source.site} has them, but no address that a program could fetch; 'netspec "
                    f"weights add {name} FILE' takes them in")
    say(f"{name}: {source}")
    if not source.checksums and not zoo.kept(path) and not trust:
        plain = any(url.startswith("http:") for url in source.urls)
        also = ", and over plain http anybody on the way could change the file" if plain else ""
        say(f"{name}: no checksum is published{also}; the sha256 of what comes is kept, and held to")
        if not asked():
            raise Error(f"{name}: nothing is downloaded unchecked without consent: --trust-first gives it")
    file = path if framework == "caffe" else path.with_name(source.urls[0].rpartition("/")[2])
    fits = partial(_fits, name) if framework == "caffe" else lambda part: None
    if file == path or not file.is_file():
        zoo.space({path.parent: source.bytes})
        zoo.fetch(name, source, file, say, meter, fits)
    if file != path:
        _convert(name, file, path, source)
        file.unlink()
    wrote(path, note=f"{amount(path.stat().st_size)}, sha256 {zoo.keep(path, meter)}")
    return path


def _fits(name: str, file: Path) -> None:
    """Raise Error unless a file has the weights of each layer of a net."""
    from ..net.deploy import deploy
    from ..net.module import Net
    from ..net.weights import ready

    net = names.net_file(name)
    try:
        report = ready(Net(deploy(net)), file)
    except Error as error:  # the net is that of the name: it is not to be changed to fit
        found = str(error).removeprefix(f"{file}: ").partition("; rename the layer")[0]
        raise Error(f"{file}: does not fit {net}: {found}") from None
    if report.missing or not report.copied + report.reshaped:
        raise Error(f"{file}: does not fit {net}: lacks the layers {listed(report.missing)}")
    if report.ignored:
        say(f"note: {file} holds {count(len(report.ignored), 'layer')} more than {net}, which stay unused: "
            f"{listed(report.ignored)}; see that it is not another net's", file=sys.stderr)


def _convert(name: str, file: Path, path: Path, source: "Source") -> None:
    """Write another framework's weights as Caffe's, if a net with them computes the same."""
    from ..convert.importers import import_layers
    from ..convert.proof import ROUNDING, prove
    from ..net.deploy import deploy
    from ..proto.model import write_weights

    zoo.verify(file, source.checksums[0], meter)
    layers = import_layers(file, name)
    apart, most = prove(file, name, layers, deploy(names.net_file(name)))
    say(f"{name}: {source.framework}'s own arithmetic and Caffe's net differ by {apart:.2g} at most, of "
        f"scores up to {most:.4g}")
    if not apart <= ROUNDING * most:
        raise Error(f"{file}: the converted net does not compute the same, so nothing is written")
    write_weights(path, name, {layer.name: (layer.type, layer.blobs) for layer in layers})


def _check(args: argparse.Namespace) -> int:
    """Compare with checksums; 1 if a file is another."""
    wanted, wrong = args.names or [*filter(zoo.stored, _names())], 0
    if not wanted:
        say(f"no weights are in {zoo.folder()}")
    for name in wanted:
        zoo.check_name(name)
        path = zoo.stored(name)
        if path is None:
            raise Error(zoo.missing(name))
        try:
            say(f"{name}: {path}: {zoo.checked(name, path, meter)}")
        except Error as error:
            wrong += 1
            say(f"{name}: {error}")
    return int(wrong > 0)


def _add(args: argparse.Namespace) -> int:
    zoo.check_name(args.name)
    file = find(args.file, what="weights")
    if args.framework != "caffe":
        path = zoo.folder() / f"{args.name}{zoo.ENDINGS[0]}"
        if there := zoo.stored(args.name):
            raise Error(f"{args.name}: {there} is there: move it away first")
        _convert(args.name, file, path, zoo.source(args.name, args.framework))
        said = f"{args.framework}'s"
    else:
        _fits(args.name, file)
        path, said = zoo.add(args.name, file, meter)
    wrote(path, note=f"fits {args.name}; {said}; sha256 {zoo.keep(path, meter)}")
    return 0


def _where(args: argparse.Namespace) -> int:
    zoo.check_name(args.name)
    path = zoo.here(args.name)
    say(path or zoo.folder() / f"{args.name}{zoo.ENDINGS[0]}")
    if path is None:
        say(f"netspec weights: {zoo.missing(args.name)}", file=sys.stderr)
    return int(path is None)
