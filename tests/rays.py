"""What Ray costs: the same images by processes (infer --jobs) and by actors (infer --ray), in turns.

    python tests/rays.py --images 200 --jobs 2 --repeats 3

A small net over made images, of a size at which one takes some 100 ms from file to files with one thread. A line a turn: images/s over the
second half of the images, when all are at work, the seconds until the first row, and those from start to end. The last line says what
Ray takes more, by the medians.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from netspec.proto.model import write_weights
from netspec.score import crew, rayed
from netspec.score.archive import Job

WIDTHS, SIDE, GOAL = (3, 32, 32, 32, 4), 160, 0.1
CONV = ('layer {{ name: "c{0}" type: "Convolution" bottom: "{1}" top: "{2}" convolution_param {{ num_output: {3} kernel_size: 3 pad: 1 }} }}\n'
        'layer {{ name: "r{0}" type: "ReLU" bottom: "{2}" top: "{2}" }}\n')


def write_net():
    drawn, last, layers = np.random.default_rng(1), len(WIDTHS) - 2, {}
    text = ('name: "rays" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 64, 64] } }\n'
            'python_param { param_str: "{\'mean\': [104, 117, 123]}" } }\n')
    for i, (inputs, outputs) in enumerate(zip(WIDTHS, WIDTHS[1:], strict=False)):
        text += CONV.format(i, f"b{i}" if i else "data", "score" if i == last else f"b{i + 1}", outputs)
        kernel = drawn.normal(0, (2 / 9 / inputs) ** 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
        layers[f"c{i}"] = "Convolution", [kernel, np.zeros(outputs, np.float32)]
    Path("net.prototxt").write_text(text)
    write_weights("net.caffemodel", "rays", layers)


def write_image(name, side):
    drawn = np.random.default_rng(len(name)).integers(0, 256, (side // 16 + 1, side // 16 + 1, 3), np.uint8)
    Image.fromarray(drawn).resize((side, side), Image.Resampling.BICUBIC).save(name)


def seconds(worker, name):
    began = time.perf_counter()
    worker(name)
    return time.perf_counter() - began


def measured(rows):
    """images/s over the second half, seconds until the first row and until the end."""
    began, times = time.perf_counter(), []
    for row in rows:
        assert "error" not in row, row
        times.append(time.perf_counter() - began)
    half = len(times) // 2
    return (len(times) - 1 - half) / (times[-1] - times[half]), times[0], time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser()
    for name, default in ("images", 200), ("jobs", 2), ("repeats", 3):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    torch.set_num_threads(args.jobs)  # one for each
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_net()
        job = Job("net.prototxt", "net.caffemodel", "out", device="cpu")
        write_image("try.png", SIDE)
        torch.set_num_threads(1)
        worker = job.open()
        spent = median(seconds(worker, "try.png") for _ in range(7))
        side = round(SIDE * (GOAL / spent) ** 0.5)
        images = [(name, name) for name in (f"im{i}.png" for i in range(args.images))]
        for name, _ in images:
            write_image(name, side)
        alone = median(seconds(worker, images[0][0]) for _ in range(7))
        print(f"{args.images} images of {side}x{side}: {alone * 1e3:.0f} ms each, alone with one thread", flush=True)
        torch.set_num_threads(args.jobs)
        found = {"--jobs": [], "--ray": []}
        for _ in range(args.repeats):
            for kind, taken in found.items():
                rows = (crew.shared(job, images, ["cpu"] * args.jobs, print) if kind == "--jobs" else
                        rayed.shared(job, images, job.facts(), "local", args.jobs, print, lambda: False))
                taken.append(measured(rows))
                print(f"{kind:6} {args.jobs}: {taken[-1][0]:5.2f} images/s, first row after {taken[-1][1]:4.1f} s, "
                      f"all after {taken[-1][2]:5.1f} s", flush=True)
        (fast, _, _), (slow, _, _) = ([median(each) for each in zip(*taken, strict=True)] for taken in found.values())
        begun = {kind: median(whole - args.images / rate for rate, _, whole in taken) for kind, taken in found.items()}
        print(f"an image takes {fast / slow - 1:+.1%} with Ray; start and end take {begun['--ray'] - begun['--jobs']:+.1f} s")


if __name__ == "__main__":
    main()
