"""What needs a GPU, one after the other in at most 40 minutes, with all it prints in one file: `make gpu`."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from netspec.base.machine import HOME, origin

REPORT = HOME / "docs/records/gpu.txt"
LIMIT = 40 * 60.0  # seconds of all
ENDING = 60.0  # of them a program has to end in when it is told to
FCN8S, STEP = "solvers/voc-fcn8s.prototxt", ("--size", "375x500", "--device", "cuda")
CAMVID = [f"solvers/camvid-fcn{stride}s.prototxt" for stride in (32, 16, 8)]


class Part(NamedTuple):
    """A command of this Python's, the seconds that it may take, and the files without which it is left out."""

    title: str
    words: Sequence[str]
    limit: float = LIMIT
    needs: Sequence[str] = ()


def netspec(*words: str) -> list[str]:
    return ["-m", "netspec", *words]


PARTS = [
    Part("the tests that need a GPU", ["-m", "pytest", "-m", "gpu", "-rs", "tests"], 450),
    Part("images for what follows", ["data/shapes/prepare.py"], 90),
    *(Part(f"a training step of shapes-fcn32s in {precision}, and whether its data keep ahead",
           netspec("time", "data", "solvers/shapes-fcn32s.prototxt", "--device", "cuda", "--precision", precision,
                   "--iterations", "100"), 120) for precision in ("fp32", "tf32", "bf16")),
    *(Part(f"a training step of camvid-fcn8s in {precision}, and whether its data keep ahead",
           netspec("time", "data", CAMVID[-1], "--device", "cuda", "--precision", precision, "--iterations", "30"), 150,
           ["data/camvid/images"]) for precision in ("tf32", "bf16")),
    Part("a forward pass of voc-fcn8s beside plain PyTorch's, without and with TF32 and in bf16",
         netspec("time", "forward", "voc-fcn8s", "--device", "cuda", "--precision", "fp32,tf32,bf16"), 150),
    Part("a training step of voc-fcn8s beside plain PyTorch's, without and with TF32 and in bf16",
         netspec("time", "train", FCN8S, *STEP, "--precision", "fp32,tf32,bf16"), 150),
    Part("a forward pass of 20 images in bf16, and its share of the card's rate",
         netspec("time", "forward", "voc-fcn8s", "--device", "cuda", "--precision", "bf16", "--batch", "20"), 120),
    Part("a training step of 20 images in bf16, its share of the card's rate, and with --checkpoint",
         netspec("time", "train", FCN8S, *STEP, "--precision", "bf16", "--batch", "20", "--checkpoint"), 150),
    Part("what 100,000 iterations of solvers/heavy/voc-fcn8s take, by measured steps",
         netspec("time", "train", "solvers/heavy/voc-fcn8s.prototxt", *STEP, "--precision", "fp32,tf32,bf16", "--only", "netspec",
                 "--steps", "100", "--repeats", "2"), 150),
    Part("a training step by torch.compile", netspec("time", "train", FCN8S, *STEP, "--precision", "bf16", "--only", "netspec",
                                                     "--compile"), 150),
    Part("CamVid with all layers learned, in bf16", netspec("demo", *CAMVID, "--device", "cuda", "--precision", "bf16",
                                                            "--out", "camvid-gpu"),
         needs=["data/camvid/images", "weights/vgg16-hed.caffemodel"]),
]


def run(part: Part, report: Path, limit: float) -> str:
    """Let a part print into the report, and stop it after so many seconds; how it ended."""
    missing = [name for name in part.needs if not (HOME / name).exists()]
    if missing:
        return f"left out: {', '.join(missing)} not there"
    begun = time.monotonic()
    with report.open("a") as file:
        process = subprocess.Popen([sys.executable, *part.words], cwd=HOME, stdout=file, stderr=subprocess.STDOUT)
        try:
            process.wait(max(limit - ENDING, 1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # solve leaves a snapshot
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            return f"stopped at its limit after {time.monotonic() - begun:.0f} s"
    return f"exit status {process.returncode} after {time.monotonic() - begun:.0f} s"


def main(parts: Sequence[Part] = PARTS, report: Path = REPORT, here: bool | None = None) -> int:
    """Run the parts; 0 if each that could be run ended well. here: whether there is a GPU (None: look)."""
    if not (torch.cuda.is_available() if here is None else here):
        print("make gpu: no CUDA device is here; run it on a machine that has one", file=sys.stderr)
        return 2
    begun, ended = time.monotonic(), []
    report.parent.mkdir(parents=True, exist_ok=True)
    facts = origin("cuda" if torch.cuda.is_available() else "cpu")
    report.write_text("".join(f"{name:<8} {text}\n" for name, text in facts.items()))
    for part in parts:
        with report.open("a") as file:
            file.write(f"\n== {part.title}\n$ python {' '.join(part.words)}\n")
        print(part.title, end=": ", flush=True)
        left = LIMIT - (time.monotonic() - begun)
        ended.append(run(part, report, min(part.limit, left)) if left > 2 * ENDING else "left out: no time is left")
        print(ended[-1], flush=True)
        with report.open("a") as file:
            file.write(f"-- {ended[-1]}\n")
    print(f"all they printed: {report}")
    return 0 if all(how.startswith(("left out", "exit status 0 ")) for how in ended) else 1


if __name__ == "__main__":
    sys.exit(main())
