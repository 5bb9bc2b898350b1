"""Python programs as processes of their own that need not load torch: they are forked from one that has.

That one knows other projects' modules alone: each program imports netspec itself. What is about how Python
starts or ends, or about what an import loads, takes subprocess instead.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch.utils.data", "numpy.random", "scipy", "PIL.Image", "h5py",
                               "google.protobuf.text_format", "safetensors.torch",
                               "torch._dynamo"])  # which DistributedDataParallel imports


def environment(**more):
    """Of a program: this process's, one thread, and the project's folder."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), **more}


class Program:
    """`python *args` in a folder, with what subprocess.Popen has.

    files: descriptors of its standard input, output and error; without, the null device and two pipes.
    """

    def __init__(self, *args, cwd, env=None, start_new_session=False, files=None):
        if files:
            theirs = [os.dup(file) for file in files]
        else:
            (out, their_out), (err, their_err) = os.pipe(), os.pipe()
            self.stdout, self.stderr = open(out), open(err)
            theirs = [os.open(os.devnull, os.O_RDONLY), their_out, their_err]
        connections = [Connection(file) for file in theirs]  # which can be sent
        self.process = SERVER.Process(target=_program, args=(
            [*map(str, args)], str(cwd), env or environment(), start_new_session, connections))
        self.process.start()
        for connection in connections:
            connection.close()
        self.pid, self.kill, self.terminate = self.process.pid, self.process.kill, self.process.terminate

    @property
    def returncode(self):
        return self.process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout):
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("python", timeout)
        return self.returncode

    def communicate(self, timeout):
        """What it says from now on, on standard output and error."""
        with ThreadPoolExecutor(2) as pool:
            reading = [pool.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            try:
                out, err = (text.result(timeout) for text in reading)
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
        self.stdout.close()
        self.stderr.close()
        return out, err


def run(*args, timeout=120, **options):
    """As subprocess.run."""
    process = Program(*args, **options)
    out, err = process.communicate(timeout)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def alive(group, seconds=10):
    """Whether a process of this group is left, waiting a moment for the last one to end."""
    for _ in range(10 * seconds):
        found = [p for p in Path("/proc").glob("[0-9]*/stat") if _stat(p)[2] == str(group) and _stat(p)[0] != "Z"]
        if not found:
            return False
        time.sleep(0.1)
    return True


def _stat(path):
    """(state, parent, group) of a process."""
    try:
        return path.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return ["Z", "", ""]


def _program(args, cwd, env, start_new_session, files):
    """In the new process."""
    import torch

    gc.freeze()  # what was loaded stays: it is not looked through again and again,
    weakref.finalize._registry.clear()  # nor taken apart at the end, 174 of torch's libraries
    os.fsync = lambda file: None  # as in conftest.py
    if start_new_session:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
        file.close()
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    status = 0
    try:
        _execute(args, env)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    sys.exit(status)


def _execute(args, env):
    """`python *args`, an interpreter's sys.path with it."""
    kind = args[0] if args[0] in ("-c", "-m") else ""
    sys.argv = args[1:] if kind == "-m" else [*args]
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    first = {"-c": "", "-m": os.getcwd()}.get(kind, str(Path(args[0]).resolve().parent))
    sys.path[:] = [first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *installed]
    if kind == "-c":
        del sys.argv[1]
        exec(args[1], {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(args[0], run_name="__main__")
