#!/usr/bin/env python3
"""The classifiers that FCNs are made of, as published: writes models/NAME/deploy.prototxt.

    models/classifiers.py            write them all
    models/classifiers.py NAME ...   write some
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netspec import NetSpec  # noqa: E402 - the path comes first
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402

HERE = Path(__file__).resolve().parent
RATES = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]  # of weights and biases
LRN = dict(local_size=5, alpha=1e-4, beta=0.75)

# num_output of the six convolutions: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj; a text is a pooling between
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128), "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


def max_pool(bottom: Any, kernel_size: int = 3, **options: Any) -> Any:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, **{"stride": 2, **options})


def google_conv(n: NetSpec, block: str, name: str, bottom: Any, num_output: int, kernel: int, std: float,
                suffix: str = "", **options: Any) -> Any:
    """A convolution of GoogLeNet and its ReLU. std: stands in the published file; 'xavier' does not read it."""
    n[f"{block}/{name}{suffix}"] = L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel, param=RATES, weight_filler=dict(type="xavier", std=std),
        bias_filler=dict(type="constant", value=0.2), **options)
    n[f"{block}/relu_{name}"] = L.ReLU(n[f"{block}/{name}{suffix}"], in_place=True)
    return n[f"{block}/relu_{name}"]


def inception(n: NetSpec, block: str, bottom: Any, sizes: tuple[int, ...]) -> Any:
    """Four branches side by side: 1x1, 3x3, 5x5, and a pooling, the last three with a 1x1 that narrows them."""
    one, reduce3, three, reduce5, five, proj = sizes
    branches = [google_conv(n, block, "1x1", bottom, one, 1, 0.03)]
    narrow = google_conv(n, block, "3x3_reduce", bottom, reduce3, 1, 0.09)
    branches.append(google_conv(n, block, "3x3", narrow, three, 3, 0.03, pad=1))
    narrow = google_conv(n, block, "5x5_reduce", bottom, reduce5, 1, 0.2)
    branches.append(google_conv(n, block, "5x5", narrow, five, 5, 0.03, pad=2))
    n[f"{block}/pool"] = max_pool(bottom, stride=1, pad=1)
    branches.append(google_conv(n, block, "pool_proj", n[f"{block}/pool"], proj, 1, 0.1))
    n[f"{block}/output"] = L.Concat(*branches)
    return n[f"{block}/output"]


def googlenet_body(n: NetSpec, bottom: Any, pad: int = 3) -> Any:
    """GoogLeNet from conv1 to inception_5b/output, stride 32, as BVLC published it; without auxiliary losses.

    pad: of the first convolution (an FCN's is wider). Returns the last Top.
    """
    at = google_conv(n, "conv1", "7x7", bottom, 64, 7, 0.1, suffix="_s2", pad=pad, stride=2)
    n["pool1/3x3_s2"] = max_pool(at)
    n["pool1/norm1"] = L.LRN(n["pool1/3x3_s2"], **LRN)
    at = google_conv(n, "conv2", "3x3_reduce", n["pool1/norm1"], 64, 1, 0.1)
    at = google_conv(n, "conv2", "3x3", at, 192, 3, 0.03, pad=1)
    n["conv2/norm2"] = L.LRN(at, **LRN)
    at = n["pool2/3x3_s2"] = max_pool(n["conv2/norm2"])
    for name, sizes in INCEPTION.items():
        if sizes:
            at = inception(n, f"inception_{name}", at, sizes)
        else:
            at = n[f"{name}/3x3_s2"] = max_pool(at)
    return at
