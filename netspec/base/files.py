"""Finding input files and writing output files whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import Error
from .machine import PACKAGE, PROJECT

OURS = "models", "solvers"  # folders that come with the package

# a full disk, a used up quota, a limit of files' sizes
FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)]
UNNAMED = r"\d+ requested and \d+ written|encoder error"  # a write cut short, in NumPy's words and Pillow's
TEMPORARY = r"\.[a-z0-9_]{8}\.part"  # the end of a temporary name: tempfile's letters and ours

LONGEST, LONGEST_PART = 4096, 255  # letters of a path and of a name in it, which no system has more of

_unfinished: set[str] = set()  # what `writing`, `staging` and `holding` have under way
_held: dict[Path, list[int]] = {}  # a lock of this process -> its open file, and how many `holding` have it
_left: dict[Path, set[str]] = {}  # folder -> unfinished files in it before it was first written into


def find(path: str | os.PathLike, base: str | os.PathLike | None = None, what: str = "file") -> Path:
    """The existing file or folder that `path` names.

    A relative path is tried from the current folder, then from `base` (the folder of the file that names
    it) and each folder above that; what starts with models/ or solvers/ then among those that come with the
    package. Raises Error listing every place tried.
    """
    path = Path(os.path.expanduser(path))  # which leaves that of an unknown user as it is
    if len(str(path)) > LONGEST or max(map(len, path.parts), default=0) > LONGEST_PART:
        raise Error(f"{what} '{str(path):.60}...' is not there: no file has a name of so many letters")
    tried = [path]
    if not path.is_absolute():
        tried = [Path.cwd() / path]
        if base is not None:
            base = Path(base).resolve()
            above = [base, *base.parents]
            if base.is_relative_to(PACKAGE):  # a net of an installed package: above it are others' files
                above = [each for each in above if each.is_relative_to(PROJECT)]
            tried += [each / path for each in above]
        if path.parts[:1] and path.parts[0] in OURS:
            tried.append(PROJECT / path)
    for candidate in tried:
        if os.path.exists(candidate):  # no for names, too, that the system does not take
            return candidate
    if native(path) != str(path):
        with suppress(Error):
            return find(native(path), base, what)
    raise Error(f"{missing(path, tried, what)}{writer(path.parent.name)}")


def writer(net: str) -> str:
    """The end of a sentence about a net that is not there: the program that writes it, where one does."""
    wheel, there = PROJECT.is_relative_to(PACKAGE), (PROJECT / "models" / net).exists()
    segnet = re.fullmatch(r"(camvid(-half)?|shapes)-bayesian-segnet(-basic)?|shapes-segnet(-basic)?", net)
    program = "rfcn" if "-rfcn-" in net else "" if there else "segnet" if segnet else "fcn"
    solver = PROJECT / "solvers" / f"{net}.prototxt"
    left_out = wheel and net.startswith(("voc-", "38cloud-")) and solver.is_file()
    if program and (left_out or segnet):
        command = f"python -m netspec.shipped.models.{program}" if wheel else f"models/{program}.py"
        return f"; '{command} {net}' writes it"
    return ""


def native(path: str | os.PathLike) -> str:
    """A path as this system writes it: files written on Windows have backslashes between folders."""
    return str(path).replace("\\", os.sep)


def lacking(names: Iterable[str], base: Path) -> Iterator[str]:
    """Those of many names for which `find` would find nothing; quick where most are in one place."""
    places = ["", *(f"{folder}/" for folder in (base.resolve(), *base.resolve().parents))]
    for name in names:
        for place in places:
            if name[:1] not in "/~" and os.path.exists(place + name):
                places.remove(place)
                places.insert(0, place)
                break
        else:
            try:
                find(name, base)
            except Error:
                yield name


def missing(path: str | os.PathLike, tried: Iterable[Path] = (), what: str = "file") -> Error:
    """The error of a file that is at none of the places `tried` (if none is given: where `path` says)."""
    places = ", ".join(dict.fromkeys(str(p) for p in tried)) or str(Path.cwd() / path)
    return Error(f"{what} '{path}' is not there (tried {places})")


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`. Raises Error for a name that leaves the folder (absolute, or by '..').

    Links in the folder are trusted.
    """
    path = folder / native(name)
    if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
        raise Error(f"'{name}' leaves the folder {folder}; only names inside it are read or written")
    return path


def other_capitals(path: Path, folder: Path) -> Path | None:
    """What is there in place of a path below `folder` and is written in other capitals: a file, or a folder
    on the way; None where nothing is, or the path is there."""
    at = folder
    for part in path.relative_to(folder).parts:
        if not (at / part).exists():
            there = sorted(os.listdir(at)) if at.is_dir() else []
            return next((at / name for name in there if name.casefold() == part.casefold()), None)
        at /= part
    return None


def check_folder(path: str | os.PathLike) -> None:
    """Error, before there is anything to write, where a folder could not be made or written into."""
    there = next(place for place in (Path(path).absolute(), *Path(path).absolute().parents)
                 if os.path.lexists(place))
    if not there.is_dir():
        raise Error(f"the folder '{path}' cannot be made: a file stands in its place")
    if not os.access(there, os.W_OK):
        raise Error(f"the folder '{path}' cannot be written: {there} forbids it")


def make_folder(path: str | os.PathLike) -> Path:
    """The folder of this name, made with those above it if it is not there. Error if a file is in the way."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Error(f"the folder '{path}' cannot be made: a file stands in its place") from None
    return path


@contextmanager
def _there(folder: Path) -> Iterator[None]:
    """Within, a folder is there; what had to be made for it goes again where nothing was put into it."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            for each in made:
                each.rmdir()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file or folder against other runs of this program; Error if one holds it already.

    Where the system has no such locks (Windows), nothing holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Error(f"another run is at work on {path}") from None
    finally:
        os.close(handle)


@contextmanager
def holding(prefix: Path) -> Iterator[None]:
    """Hold the names that begin with a prefix against other processes of this program, by a file that is
    there meanwhile; Error if one that lives holds them. Where the system has no such locks, nothing does."""
    lock = prefix.absolute().with_name(f".{prefix.name}.lock.part")
    with _there(prefix.parent):
        held = _held[lock] = _held.get(lock) or [_locked(lock, prefix), 0]
        held[1] += 1
        _unfinished.add(str(lock))
        try:
            yield
        finally:
            held[1] -= 1
            if not held[1] and lock in _held:  # else this process was forked meanwhile
                del _held[lock]
                with suppress(OSError):
                    os.unlink(lock)
                _unfinished.discard(str(lock))
                os.close(held[0])


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)  # such locks are not inherited


def _locked(lock: Path, prefix: Path) -> int:
    """The open file of a lock; it is the process's own, and no worker that is forked keeps it alive."""
    while True:
        with naming(prefix):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            import fcntl

            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(lock)):
                return handle
        except ImportError:
            return handle
        except FileNotFoundError:  # its last holder took it away meanwhile
            pass
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):  # a file system without locks
                return handle
            os.close(handle)
            raise Error(f"another run that is at work writes {prefix}_*: wait for it, or give this one "
                        "another snapshot_prefix") from None
        os.close(handle)


def sweep(path: Path, more: str = "") -> None:
    """Remove what killed processes left of writing this file, and what no other holds; more: a regular
    expression, of what follows in the names of files that are meant too."""
    folder, name = path.absolute().parent, re.compile(rf"\.{re.escape(path.name)}{more}{TEMPORARY}")
    if folder not in _left:
        _left[folder] = set()
        with suppress(OSError):  # of a folder that can be written and not read
            _left[folder] = {name for name in os.listdir(folder) if name.endswith(".part")}
    for left in [each for each in _left[folder] if name.fullmatch(each)]:
        _left[folder].discard(left)
        with suppress(OSError, Error), alone(folder / left):
            _remove(folder / left)  # Windows refuses where it is open


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A full disk names no file, and a file that cannot be made its temporary name; `path` is told."""
    try:
        yield
    except OSError as error:
        if error.errno is None and re.search(UNNAMED, str(error)):
            raise OSError(errno.EIO, f"cannot be written whole ({error})", str(path)) from None
        if error.filename is None and error.errno in FULL or re.search(r"\.part\b", str(error.filename)):
            error.filename = str(path)
        raise


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what is moved there at last; it goes with the block, and what a killed
    process left goes first."""
    sweep(path)
    with (_there(path.parent), naming(path), ExitStack() as held,
          tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".part", dir=path.parent) as folder):
        _unfinished.add(folder)
        held.callback(_unfinished.discard, folder)
        with suppress(OSError, Error):  # on a file system without locks
            held.enter_context(alone(Path(folder)))
        yield Path(folder)


@contextmanager
def writing(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """A file object whose content appears under `path` only when the block ends without an exception.

    It is written under a temporary name in the same folder, flushed to the disk, and renamed, so that a
    reader, or a process killed at any moment, never sees half of it; what such a one left, the next that
    writes the file removes. Missing folders are made. A device or a pipe is written to as it is: a rename
    would put a file in its place (/dev/null, where one may).
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        with naming(path), open(path, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        return
    make_folder(path.parent)
    sweep(path)
    with naming(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    _unfinished.add(temporary)
    held = ExitStack()
    try:
        with suppress(OSError, Error):  # on a file system without locks
            held.enter_context(alone(Path(temporary)))
        with naming(path), open(handle, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)  # mkstemp makes the file private; give it what open() would have given
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    finally:
        held.close()
        _unfinished.discard(temporary)


def drop_unfinished() -> None:
    """Remove what is under way, for a process that ends here and now."""
    for path in list(_unfinished):
        with suppress(OSError):  # Windows keeps what is open
            _remove(path)


def _remove(path: str | os.PathLike) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
