"""More cases as those of fork_cases.py: layers of inference that forks have in common, with results of naive loops."""

import math
from itertools import product

import numpy as np
from fork_cases import CASES, TRAIN, case, layer, numbers

__all__ = ["CASES"]


# Convolutions by channel, and over time


def convolved(x, weight, bias, groups, stride, pad):
    """Of any number of axes, by loops over each number of the top and each of the window."""
    x = np.pad(x.astype(float), [(0, 0), (0, 0), *((p, p) for p in pad)])
    kernel, each, outputs = weight.shape[2:], weight.shape[1], len(weight)
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    y = np.zeros((len(x), outputs, *sizes))
    for n, o, *at in np.ndindex(*y.shape):
        first = o // (outputs // groups) * each
        total = float(bias[o])
        for c, *k in np.ndindex(each, *kernel):
            place = tuple(a * s + b for a, s, b in zip(at, stride, k, strict=True))
            total += float(weight[(o, c, *k)]) * x[(n, first + c, *place)]
        y[(n, o, *at)] = total
    return y


X = numbers(2, 4, 5, 6)
W, B = numbers(4, 1, 3, 2, seed=1), numbers(4, seed=2)
WINDOW = "num_output: 4 kernel_h: 3 kernel_w: 2 stride: 2 pad_h: 1 pad_w: 0"
case("DepthwiseConvolution", layer("DepthwiseConvolution", f"convolution_param {{ {WINDOW} group: 4 }}"), {"x": X},
     {"y": convolved(X, W, B, 4, (2, 2), (1, 0))}, (W, B))
case("ConvolutionDepthwise", layer("ConvolutionDepthwise", f"convolution_param {{ {WINDOW} }}"), {"x": X},
     {"y": convolved(X, W, B, 4, (2, 2), (1, 0))}, (W, B))
TWO = numbers(4, 2, 3, 2, seed=1)
case("ConvolutionDepthwise of groups", layer("ConvolutionDepthwise", f"convolution_param {{ {WINDOW} group: 2 }}"),
     {"x": X}, {"y": convolved(X, TWO, B, 2, (2, 2), (1, 0))}, (TWO, B))

FILM = numbers(2, 3, 5, 4, 6)
W, B = numbers(2, 3, 3, 2, 2, seed=1), numbers(2, seed=2)
TIME = ("num_output: 2 kernel_size: 2 kernel_depth: 3 stride: 2 temporal_stride: 1 pad: 1 temporal_pad: 2", (1, 2, 2),
        (2, 1, 1))
case("Convolution3D", layer("Convolution3D", f"convolution_param {{ {TIME[0]} }}"), {"x": FILM},
     {"y": convolved(FILM, W, B, 1, *TIME[1:])}, (W, B))
case("Convolution3D of 1.1", layer("Convolution3D", f"convolution3d_param {{ {TIME[0]} }}"), {"x": FILM},
     {"y": convolved(FILM, W, B, 1, *TIME[1:])}, (W, B))
SHAPED = ("num_output: 2 kernel_shape { dim: 3 dim: 2 dim: 2 } stride_shape { dim: 1 dim: 2 dim: 2 } "
          "pad_shape { dim: 2 dim: 1 dim: 1 }")
case("NdConvolution", layer("NdConvolution", f"convolution_param {{ {SHAPED} }}"), {"x": FILM},
     {"y": convolved(FILM, W, B, 1, *TIME[1:])}, (W, B))
FLAT = numbers(2, 3, 3, 2, seed=1)
case("NdConvolution in two dimensions", layer("NdConvolution", "convolution_param { num_output: 2 kernel_shape { dim: 3 dim: 2 } }"),
     {"x": FILM[:, :, 0]}, {"y": convolved(FILM[:, :, 0], FLAT, B, 1, (1, 1), (0, 0))}, (FLAT, B))


def transposed(x, weight, bias, stride, pad):
    sizes = [(n - 1) * s + k for n, k, s in zip(x.shape[2:], weight.shape[2:], stride, strict=True)]
    y = np.zeros((len(x), weight.shape[1], *sizes)) + bias.reshape(1, -1, 1, 1, 1)
    for n, c, *at in np.ndindex(*x.shape):
        for o, *k in np.ndindex(*weight.shape[1:]):
            place = tuple(a * s + b for a, s, b in zip(at, stride, k, strict=True))
            y[(n, o, *place)] += float(x[(n, c, *at)]) * float(weight[(c, o, *k)])
    return y[(..., *(slice(p, size - p) for p, size in zip(pad, sizes, strict=True)))]


BACK, SMALL = numbers(3, 2, 3, 2, 2, seed=1), FILM[:, :, :3, :2, :3]
case("Deconvolution3D", layer("Deconvolution3D", "convolution_param { num_output: 2 kernel_size: 2 kernel_depth: 3 stride: 2 "
                              "pad: 1 temporal_stride: 1 temporal_pad: 0 }"), {"x": SMALL},
     {"y": transposed(SMALL, BACK, B, (1, 2, 2), (0, 1, 1))}, (BACK, B))


case("Deconvolution3D of one image", layer("Deconvolution3D", "convolution_param { num_output: 2 kernel_size: 2 kernel_depth: 3 }"),
     {"x": SMALL[:, :, :1]}, {"y": transposed(SMALL[:, :, :1], BACK, B, (1, 1, 1), (0, 0, 0))}, (BACK, B))


# Pooling over time


def pooled(x, kernel, stride, pad, largest):
    """Rounded up; a window that would start behind the image is none; the mean is of what lies in the padded map."""
    sizes = []
    for n, k, s, p in zip(x.shape[2:], kernel, stride, pad, strict=True):
        size = math.ceil((n + 2 * p - k) / s) + 1
        sizes.append(size - (p > 0 and (size - 1) * s >= n + p))
    y = np.zeros((*x.shape[:2], *sizes))
    for n, c, *at in np.ndindex(*y.shape):
        starts = [a * s - p for a, s, p in zip(at, stride, pad, strict=True)]
        ends = [min(a + k, n + p) for a, k, n, p in zip(starts, kernel, x.shape[2:], pad, strict=True)]
        inside = [range(max(a, 0), min(b, n)) for a, b, n in zip(starts, ends, x.shape[2:], strict=True)]
        values = [float(x[(n, c, *place)]) for place in product(*inside)]
        y[(n, c, *at)] = max(values) if largest else sum(values) / math.prod(b - a for a, b in zip(starts, ends, strict=True))
    return y


for kind, pad in (("MAX", 0), ("AVE", 0), ("AVE", 1)):
    case(f"Pooling3D {kind} {pad}", layer("Pooling3D", f"pooling_param {{ pool: {kind} kernel_size: 3 kernel_depth: 2 stride: 2 "
                                          f"temporal_stride: 2 pad: {pad} }}"), {"x": FILM},
         {"y": pooled(FILM, (2, 3, 3), (2, 2, 2), (0, pad, pad), kind == "MAX")})
case("Pooling3D of 1.1", layer("Pooling3D", "pooling3d_param { kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1 }"),
     {"x": FILM}, {"y": pooled(FILM, (1, 2, 2), (1, 2, 2), (0, 0, 0), True)})
case("NdPooling", layer("NdPooling", "pooling_param { kernel_shape { dim: 3 dim: 2 dim: 3 } stride_shape { dim: 2 dim: 1 dim: 3 } "
                        "pad_shape { dim: 2 dim: 1 dim: 0 } }"), {"x": FILM},
     {"y": pooled(FILM, (3, 2, 3), (2, 1, 3), (2, 1, 0), True)})
case("NdPooling in two dimensions", layer("NdPooling", "pooling_param { pool: AVE kernel_shape { dim: 3 dim: 2 } "
                                          "stride_shape { dim: 2 dim: 2 } }"), {"x": X},
     {"y": pooled(X, (3, 2), (2, 2), (0, 0), False)})


# Number by number, and channel by channel

WIDE = np.array([[-9, -2.5, -0.25, 0.5, 5.75, 6.25, 40]], np.float32)
case("ReLU6", layer("ReLU6"), {"x": WIDE}, {"y": [[min(max(v, 0), 6) for v in WIDE[0]]]})
case("ReLU6 with a slope", layer("ReLU6", "relu6_param { negative_slope: 0.1 }"), {"x": WIDE},
     {"y": [[min(max(v, 0) + 0.1 * min(v, 0), 6) for v in map(float, WIDE[0])]]})
MAPS, OTHER = numbers(2, 6, 4, 6, seed=3), numbers(2, 6, 4, 6, seed=4)
for shape in ((2, 6), (2, 6, 1, 1)):
    A = numbers(*shape, seed=5)
    y = np.zeros(MAPS.shape)
    for n, c, i, j in np.ndindex(*MAPS.shape):
        y[n, c, i, j] = float(A.reshape(2, 6)[n, c]) * float(MAPS[n, c, i, j]) + float(OTHER[n, c, i, j])
    case(f"Axpy {len(shape)}", layer("Axpy", "", "axb"), {"a": A, "x": MAPS, "b": OTHER}, {"y": y})
y = np.zeros(MAPS.shape)
for i, j in np.ndindex(3, 2):  # of 3 groups of 2 channels
    y[:, j * 3 + i] = MAPS[:, i * 2 + j]
case("ShuffleChannel", layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), {"x": MAPS}, {"y": y})


def reorganised(x, s, reverse):
    """Darknet's, by indices into memory."""
    n, c, h, w = x.shape
    y, flat, cut = np.zeros(x.size), x.ravel(), c // s**2
    for b, k, j, i in np.ndindex(n, c, h, w):
        here = i + w * (j + h * (k + c * b))
        there = i * s + k // cut % s + w * s * (j * s + k // cut // s + h * s * (k % cut + cut * b))
        if reverse:
            y[there] = flat[here]
        else:
            y[here] = flat[there]
    return y.reshape((n, cut, h * s, w * s) if reverse else (n, c * s**2, h // s, w // s))


MANY = numbers(2, 8, 4, 6, seed=6)
case("Reorg", layer("Reorg", "reorg_param { stride: 2 }"), {"x": MANY}, {"y": reorganised(MANY, 2, False)})
case("Reorg reverse", layer("Reorg", "reorg_param { stride: 2 reverse: true }"), {"x": MANY}, {"y": reorganised(MANY, 2, True)})


# Sizes


def resized(x, size):
    y = np.zeros((*x.shape[:2], *size))
    for n, c, i, j in np.ndindex(*y.shape):
        u, v = (k * (have - 1) / (want - 1) if want > 1 else 0
                for k, have, want in zip((i, j), x.shape[2:], size, strict=True))
        for a, b in product(range(x.shape[2]), range(x.shape[3])):
            y[n, c, i, j] += max(0, 1 - abs(u - a)) * max(0, 1 - abs(v - b)) * float(x[n, c, a, b])
    return y


case("Interp of a blob's size", layer("Interp", "interp_param { use_blob_size: true }", "xb"), {"x": X, "b": numbers(2, 3, 9, 8)},
     {"y": resized(X, (9, 8))})
y = np.zeros((2, 4, 15, 18))
for n, c, i, j in np.ndindex(*y.shape):
    y[n, c, i, j] = X[n, c, i // 3, j // 3]
case("Upsample of one bottom", layer("Upsample", "upsample_param { scale: 3 }"), {"x": X}, {"y": y})


# Regions


def aligned(x, rois, high, wide, scale, ratio):
    height, width = x.shape[2:]
    y = np.zeros((len(rois), x.shape[1], high + 1, wide + 1))
    for r, (item, x1, y1, x2, y2) in enumerate(rois.astype(float)):
        px, py = (x2 - x1 + 1) * ratio, (y2 - y1 + 1) * ratio
        left, top, right, bottom = ((x1 - px) * scale - 0.5, (y1 - py) * scale - 0.5, (x2 + px) * scale - 0.5, (y2 + py) * scale - 0.5)
        if right <= left or bottom <= top:
            continue
        for c, i, j in np.ndindex(*y.shape[1:]):
            v, u = top + i * (bottom - top) / high, left + j * (right - left) / wide
            if not (-0.5 <= v <= height - 0.5 and -0.5 <= u <= width - 0.5):
                continue
            v, u = min(max(v, 0), height - 1), min(max(u, 0), width - 1)
            for a, b in np.ndindex(height, width):
                y[r, c, i, j] += max(0, 1 - abs(v - a)) * max(0, 1 - abs(u - b)) * float(x[int(item), c, a, b])
    return y


def widened(x, rois, high, wide, scale, ratio):
    height, width = x.shape[2:]
    y = np.zeros((len(rois), x.shape[1], high, wide))
    for r, (item, x1, y1, x2, y2) in enumerate(rois.astype(float)):
        px, py = (x2 - x1 + 1) * ratio, (y2 - y1 + 1) * ratio
        left, top, right, bottom = (math.floor(abs(v * scale) + 0.5) * (1 if v > 0 else -1)
                                    for v in (x1 - px, y1 - py, x2 + px, y2 + py))
        rows, columns = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for c, i, j in np.ndindex(*y.shape[1:]):
            inside = [(a, b) for a in range(top + i * rows // high, top - -(i + 1) * rows // high)
                      for b in range(left + j * columns // wide, left - -(j + 1) * columns // wide)
                      if 0 <= a < height and 0 <= b < width]
            y[r, c, i, j] = max((float(x[int(item), c, a, b]) for a, b in inside), default=0)
    return y


ROIS = np.array([[0, 2, 3, 40, 25], [1, 30, -4, 70, 60], [0, 12, 9, 12.5, 9.25], [1, 20, 20, 10, 30], [0, 1, 1, 38, 28]], np.float32)
for ratio in (0, 0.25):
    p = f"roi_pooling_param {{ pooled_h: 2 pooled_w: 3 spatial_scale: 0.125 pad_ratio: {ratio} }}"
    case(f"ROIAlign {ratio}", layer("ROIAlign", p, "xr"), {"x": X, "r": ROIS}, {"y": aligned(X, ROIS, 2, 3, 0.125, ratio)})
    case(f"ROIPooling grown by {ratio}", layer("ROIPooling", p, "xr"), {"x": X, "r": ROIS},
         {"y": widened(X, ROIS, 2, 3, 0.125, ratio)})


# Parameter, BatchNorm

case("Parameter with a filler", layer("Parameter", "parameter_param { shape { dim: 2 dim: 3 } filler { value: 7 } }", ()),
     {}, {"y": np.full((2, 3), 7)})
MEAN, VARIANCE, SCALE, SHIFT = numbers(4, seed=1), numbers(4, seed=2) ** 2 + 0.1, numbers(4, seed=3), numbers(4, seed=4)


def each(values):
    return values.reshape(1, 4, 1, 1).astype(float)


def normed(mean, variance, eps):
    return (X - each(mean)) / np.sqrt(each(variance) + eps)


BATCH = X.astype(float).transpose(1, 0, 2, 3).reshape(4, -1)
AVERAGE, SPREAD = BATCH.mean(1), BATCH.var(1)
UNBIASED = SPREAD * 60 / 59
ONE, HALF = np.ones(1), np.full(1, 0.5)
NVIDIA = "moving_average_fraction: 0.9 eps: 1e-7 scale_bias: true"
for text in (NVIDIA, "eps: 1e-7 scale_filler { value: 2 }", "eps: 1e-7 bias_filler { value: 2 }"):
    case(f"BatchNorm {text}", layer("BatchNorm", f"batch_norm_param {{ {text} }}"), {"x": X},
         {"y": each(SCALE) * normed(MEAN, VARIANCE, 1e-5) + each(SHIFT)}, (MEAN, VARIANCE, ONE, SCALE, SHIFT))
case("BatchNorm of NVIDIA has statistics by phase", layer("BatchNorm", f"batch_norm_param {{ {NVIDIA} use_global_stats: false }}"),
     {"x": X}, {"y": each(SCALE) * normed(MEAN, VARIANCE, 1e-5) + each(SHIFT)}, (MEAN, VARIANCE, ONE, SCALE, SHIFT))
FIRST = "param { lr_mult: 1 } param { lr_mult: 2 } param { lr_mult: 0 } param { lr_mult: 0 }"
case("BatchNorm of Vitis-AI", layer("BatchNorm", f"batch_norm_param {{ scale_filler {{ value: 2 }} }} {FIRST}"), {"x": X},
     {"y": each(SCALE) * normed(MEAN, VARIANCE, 1e-5) + each(SHIFT)}, (SCALE, SHIFT, MEAN, VARIANCE, 0 * ONE))
case("BatchNorm of NVIDIA in training", layer("BatchNorm", f"batch_norm_param {{ {NVIDIA} }}"), {"x": X},
     {"y": each(SCALE) * normed(AVERAGE, SPREAD, 1e-5) + each(SHIFT)}, (MEAN, VARIANCE, ONE, SCALE, SHIFT), TRAIN,
     param_after={0: 0.9 * MEAN + 0.1 * AVERAGE, 1: 0.9 * VARIANCE + 0.1 * UNBIASED, 2: ONE, 3: SCALE, 4: SHIFT})
case("BatchNorm of NVIDIA at its first batch", layer("BatchNorm", f"batch_norm_param {{ {NVIDIA} }}"), {"x": X},
     {"y": each(SCALE) * normed(AVERAGE, SPREAD, 1e-5) + each(SHIFT)}, (0 * MEAN, 0 * VARIANCE, ONE, SCALE, SHIFT), TRAIN,
     param_after={0: AVERAGE, 1: UNBIASED, 2: ONE})
INTEL = (MEAN, VARIANCE, HALF, SCALE, SHIFT)
for text, own, y in (("filler { value: 1 }", INTEL, each(SCALE) * normed(2 * MEAN, 2 * VARIANCE, 1e-5) + each(SHIFT)),
                     ("bias_term: false", INTEL[:4], each(SCALE) * normed(2 * MEAN, 2 * VARIANCE, 1e-5)),
                     ("use_weight_bias: false", INTEL[:3], normed(2 * MEAN, 2 * VARIANCE, 1e-5))):
    case(f"BatchNorm {text}", layer("BatchNorm", f"batch_norm_param {{ {text} }}"), {"x": X}, {"y": y}, own)
case("BatchNorm of Intel in training", layer("BatchNorm", "batch_norm_param { bias_term: true }"), {"x": X},
     {"y": each(SCALE) * normed(AVERAGE, SPREAD, 1e-5) + each(SHIFT)}, INTEL, TRAIN,
     param_after={0: 0.999 * MEAN + AVERAGE, 1: 0.999 * VARIANCE + UNBIASED, 2: 0.999 * HALF + 1})
