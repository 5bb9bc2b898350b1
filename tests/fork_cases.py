"""Nets of one layer that no Caffe at hand has, its forks' and newer ones, with results of naive loops.

Each case is like those of golden_case.py, so that the same tests run over both. Gradients are given where they are
not simply those of the forward pass.
"""

import math

import numpy as np
from dense_crf import meanfield
from golden_case import Case

from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.upgrade import upgrade_net

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
CASES: dict[str, Case] = {}


def layer(kind, settings="", bottoms=("x",), tops=("y",)):
    return (f'layer {{ name: "l" type: "{kind}" {" ".join(f"bottom: {b!r}" for b in bottoms)} '
            f'{" ".join(f"top: {t!r}" for t in tops)} {settings} }}\n')


def case(name, text, inputs, outputs, params=(), phase=TEST, **more):
    """inputs, outputs: blob -> array; params: those of layer l; more: topdiff, indiff, param_after, by blob or index."""
    shapes = {k: " ".join(f"dim: {n}" for n in v.shape) for k, v in inputs.items()}
    head = "".join(f'layer {{ name: "{k}" type: "Input" top: "{k}" input_param {{ shape {{ {s} }} }} }}\n'
                   for k, s in shapes.items())
    arrays = {f"in:{k}": v.astype(np.float32) for k, v in inputs.items()}
    arrays |= {f"out:{k}": np.asarray(v, np.float32) for k, v in outputs.items()}
    arrays |= {f"param:l:{i}": v.astype(np.float32) for i, v in enumerate(params)}
    for kind, blobs in more.items():
        for k, v in blobs.items():
            arrays[f"{kind}:l:{k}" if kind.startswith("param") else f"{kind}:{k}"] = np.asarray(v, np.float32)
    assert name not in CASES
    net = prototext.parse(head + text, caffe_pb2.NetParameter)
    upgrade_net(net)
    CASES[name] = Case(net, phase, arrays)


def numbers(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


# Interp


def interp(x, size, beg=0, end=0):
    x = x[:, :, -beg : x.shape[2] + end, -beg : x.shape[3] + end].astype(float)
    n, c, h, w = x.shape
    y = np.zeros((n, c, *size))
    for i in range(size[0]):
        for j in range(size[1]):
            u = (h - 1) / (size[0] - 1) * i if size[0] > 1 else 0
            v = (w - 1) / (size[1] - 1) * j if size[1] > 1 else 0
            a, b = int(u), int(v)
            a2, b2 = min(a + 1, h - 1), min(b + 1, w - 1)
            p, q = u - a, v - b
            y[:, :, i, j] = ((1 - p) * ((1 - q) * x[:, :, a, b] + q * x[:, :, a, b2])
                             + p * ((1 - q) * x[:, :, a2, b] + q * x[:, :, a2, b2]))
    return y


X = numbers(2, 3, 7, 9)
for settings, size in {
    "zoom_factor: 3": (19, 25),
    "zoom_factor: 1": (7, 9),
    "shrink_factor: 3": (3, 3),
    "shrink_factor: 2 zoom_factor: 4": (13, 17),
    "height: 10 width: 4": (10, 4),
    "height: 1 width: 1": (1, 1),
    "height: 5 width: 6 shrink_factor: 2": (4, 5),
    "height: 5 width: 6 shrink_factor: 2 zoom_factor: 2": (5, 6),
}.items():
    case(f"Interp {settings}", layer("Interp", f"interp_param {{ {settings} }}"), {"x": X}, {"y": interp(X, size)})
case("Interp cropping", layer("Interp", "interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }"), {"x": X},
     {"y": interp(X, (7, 11), -1, -2)})


# Upsample, Unpooling


def scattered(x, mask, size):
    y = np.zeros((*x.shape[:2], *size))
    for n, c, i, j in np.ndindex(*x.shape):
        y[n, c].flat[int(mask[n, c, i, j])] = x[n, c, i, j]
    return y


def pooled_mask(high, wide, seed=1):
    """A mask as a pooling of 2 x 2 with stride 2 gives it, for a bottom of high x wide."""
    random = np.random.RandomState(seed)
    mask = np.zeros((2, 3, -(-high // 2), -(-wide // 2)))
    for n, c, i, j in np.ndindex(*mask.shape):
        rows, columns = range(2 * i, min(2 * i + 2, high)), range(2 * j, min(2 * j + 2, wide))
        mask[n, c, i, j] = random.choice(rows) * wide + random.choice(columns)
    return mask


for settings, size in {
    "": (6, 8),
    "scale: 2 pad_out_h: true": (5, 8),
    "scale_h: 2 scale_w: 2 pad_out_w: true": (6, 7),
    "scale_h: 3 scale_w: 2": (9, 8),
    "scale: 3 upsample_h: 5 upsample_w: 7": (5, 7),
}.items():
    mask = pooled_mask(5, 7) if size[1] == 7 and size[0] == 5 else pooled_mask(min(size[0], 6), size[1])
    x = numbers(*mask.shape)
    case(f"Upsample {settings}", layer("Upsample", f"upsample_param {{ {settings} }}", ("x", "m")), {"x": x, "m": mask},
         {"y": scattered(x, mask, size)})


def windows(shape, kernel, stride, size):
    for i, j in np.ndindex(*shape):
        rows = slice(i * stride[0], min(i * stride[0] + kernel[0], size[0]))
        columns = slice(j * stride[1], min(j * stride[1] + kernel[1], size[1]))
        yield (i, j), (slice(None), slice(None), rows, columns), (rows.stop - rows.start) * (columns.stop - columns.start)


def spread(x, kernel, stride, size, share):
    y = np.zeros((*x.shape[:2], *size))
    for (i, j), place, area in windows(x.shape[2:], kernel, stride, size):
        y[place] += (x[:, :, i, j] / (area if share else 1))[:, :, None, None]
    return y


x, mask = numbers(2, 3, 3, 4), pooled_mask(6, 8)
GEOMETRY = "kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 8"
case("Unpooling MAX by mask", layer("Unpooling", f"unpooling_param {{ {GEOMETRY} }}", ("x", "m")), {"x": x, "m": mask},
     {"y": scattered(x, mask, (6, 8))})
corner = np.zeros((2, 3, 8, 8))
for i, j in np.ndindex(3, 4):
    corner[:, :, 3 * i, 2 * j] = x[:, :, i, j]
case("Unpooling MAX fixed", layer("Unpooling", "unpooling_param { kernel_size: 3 stride_h: 3 stride_w: 2 unpool_size: 8 }"),
     {"x": x}, {"y": corner})
for method in ("AVE", "TILE"):
    for text, kernel, stride, size in (
        (GEOMETRY, (2, 2), (2, 2), (6, 8)),
        ("kernel_h: 3 kernel_w: 4 stride: 2 unpool_size: 7", (3, 4), (2, 2), (7, 7)),
    ):
        top = numbers(2, 3, *size, seed=3)
        back = np.zeros_like(x)
        for (i, j), place, area in windows((3, 4), kernel, stride, size):
            back[:, :, i, j] = top[place].sum((2, 3)) / area  # for TILE too
        case(f"Unpooling {method} {size[0]}", layer("Unpooling", f"unpooling_param {{ unpool: {method} {text} }}"), {"x": x},
             {"y": spread(x, kernel, stride, size, method == "AVE")}, topdiff={"y": top}, indiff={"x": back})


# BN, Normalize

X = numbers(4, 3, 5, 6) * 2 + 1
SLOPE, BIAS = (numbers(1, 3, 1, 1, seed=s) for s in (1, 2))
MEAN, VARIANCE = numbers(1, 3, 1, 1, seed=3), np.abs(numbers(1, 3, 1, 1, seed=4)) + 0.5
BATCH_MEAN = X.mean((0, 2, 3), dtype=float).reshape(1, 3, 1, 1)
BATCH_VARIANCE = ((X - BATCH_MEAN) ** 2).mean((0, 2, 3)).reshape(1, 3, 1, 1)
FILL = "scale_filler { value: 1 } shift_filler { value: 0.001 }"


def normalised(mean, variance, eps):
    return SLOPE * (X - mean) / np.sqrt(variance + eps) + BIAS


for phase in (TRAIN, TEST):  # SegNet's mode does not depend on the phase
    case(f"BN learn {phase}", layer("BN", f"bn_param {{ {FILL} }}", tops="ymv"), {"x": X},
         {"y": normalised(BATCH_MEAN, BATCH_VARIANCE, 1e-9), "m": BATCH_MEAN, "v": BATCH_VARIANCE}, (SLOPE, BIAS), phase)
    case(f"BN inference {phase}", layer("BN", f"bn_param {{ {FILL} bn_mode: INFERENCE }}"), {"x": X}, {"y": SLOPE * X + BIAS},
         (SLOPE, BIAS), phase)
KEPT = (SLOPE, BIAS, MEAN, VARIANCE)
case("BN kept", layer("BN", "bn_param { eps: 0.1 }"), {"x": X}, {"y": normalised(MEAN, VARIANCE, 0.1)}, KEPT)
case("BN frozen", layer("BN", "bn_param { frozen: true momentum: 0.95 }"), {"x": X},
     {"y": normalised(MEAN, VARIANCE, 1e-5)}, KEPT, TRAIN, param_after=dict(enumerate(KEPT)))
case("BN momentum", layer("BN", "bn_param { momentum: 0.8 eps: 1e-3 }"), {"x": X},
     {"y": normalised(BATCH_MEAN, BATCH_VARIANCE, 1e-3)}, KEPT, TRAIN,
     param_after={2: 0.8 * MEAN + 0.2 * BATCH_MEAN, 3: 0.8 * VARIANCE + 0.2 * BATCH_VARIANCE})

for across in (True, False):
    for shared in (True, False):
        scale = np.array(1.7) if shared else SLOPE.ravel()
        norm = np.sqrt((X.astype(float) ** 2).sum((1, 2, 3) if across else 1, keepdims=True) + 0.3)
        text = f"norm_param {{ across_spatial: {across} channel_shared: {shared} eps: 0.3 }}".replace("T", "t").replace("F", "f")
        case(f"Normalize {across} {shared}", layer("Normalize", text), {"x": X},
             {"y": X / norm * scale.reshape(1, -1, 1, 1)}, (scale,))
case("Normalize N x C", layer("Normalize", "norm_param { across_spatial: false }"), {"x": X[:, :, 0, 0]},
     {"y": 20 * X[:, :, 0, 0] / np.sqrt((X[:, :, 0, 0] ** 2).sum(1, keepdims=True) + 1e-10)}, (np.array(20.0),))


# Permute, AutoCrop

X = numbers(2, 3, 4, 5)
for order, axes in {"0 2 3 1": (0, 2, 3, 1), "3 1": (3, 1, 0, 2), "": (0, 1, 2, 3), "0 1 2 3": (0, 1, 2, 3)}.items():
    text = " ".join(f"order: {axis}" for axis in order.split())
    case(f"Permute {order}", layer("Permute", f"permute_param {{ {text} }}"), {"x": X}, {"y": X.transpose(axes)})

CONV = 'convolution_param { num_output: 1 kernel_size: 3 pad: 35 bias_term: false }'
UP = 'convolution_param { num_output: 1 kernel_size: 4 stride: 2 bias_term: false }'
X = numbers(1, 1, 6, 9)
WEIGHT, SPREAD = numbers(1, 1, 3, 3, seed=5), numbers(1, 1, 4, 4, seed=6)


def cropped():
    """What reads at x - 34 by a 3 x 3 kernel and at half that by pooling lies, spread again, 35 to the left."""
    wide = np.pad(X[0, 0], 35)
    conv = sum(WEIGHT[0, 0, i, j] * wide[i : wide.shape[0] - 2 + i, j : wide.shape[1] - 2 + j] for i, j in np.ndindex(3, 3))
    pool = conv[: conv.shape[0] // 2 * 2, : conv.shape[1] // 2 * 2].reshape(conv.shape[0] // 2, 2, -1, 2).mean((1, 3)) \
        if not (conv.shape[0] % 2 or conv.shape[1] % 2) else averaged(conv)
    up = np.zeros((2 * pool.shape[0] + 2, 2 * pool.shape[1] + 2))
    for i, j in np.ndindex(*pool.shape):
        up[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += pool[i, j] * SPREAD[0, 0]
    return up[None, None, 35 : 35 + 6, 35 : 35 + 9]


def averaged(x):
    high, wide = (-(-n // 2) for n in x.shape)
    return np.array([[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(wide)] for i in range(high)])


NET = (layer("Convolution", CONV).replace('"l"', '"c"').replace("'y'", "'c'")
       + layer("Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 2 }", "c", "p").replace('"l"', '"p"')
       + layer("Deconvolution", UP, "p", "u").replace('"l"', '"u"') + layer("AutoCrop", "", "ux"))
case("AutoCrop", NET, {"x": X}, {"y": cropped()})
CASES["AutoCrop"].arrays.update({"param:c:0": WEIGHT, "param:u:0": SPREAD})


# ROIPooling, PSROIPooling

ROIS = np.array([[0, 0, 0, 15, 11], [1, 3.4, 2.6, 9.5, 17.4], [0, 20, 8, 8, 20], [1, -6, -6, 4, 4], [0, 40, 40, 60, 60],
                 [1, 12, 12, 12, 12], [0, 2.5, 4.5, 6.5, 8.5]], np.float32)


def rounded(v):
    return int(math.copysign(math.floor(abs(v) + 0.5), v))


def roi_pooled(x, rois, high, wide, scale, top):
    """The pooled regions, and the gradient of the bottom for this gradient of the top."""
    f = np.float32
    y, back = np.zeros((len(rois), x.shape[1], high, wide)), np.zeros_like(x)
    for r, roi in enumerate(rois):
        x1, y1, x2, y2 = (rounded(f(v) * f(scale)) for v in roi[1:])
        bin_h, bin_w = f(max(y2 - y1 + 1, 1)) / f(high), f(max(x2 - x1 + 1, 1)) / f(wide)
        for c, i, j in np.ndindex(x.shape[1], high, wide):
            rows = [min(max(int(v) + y1, 0), x.shape[2]) for v in (np.floor(f(i) * bin_h), np.ceil(f(i + 1) * bin_h))]
            columns = [min(max(int(v) + x1, 0), x.shape[3]) for v in (np.floor(f(j) * bin_w), np.ceil(f(j + 1) * bin_w))]
            part = x[int(roi[0]), c, slice(*rows), slice(*columns)]
            if part.size:
                at = np.unravel_index(part.argmax(), part.shape)
                y[r, c, i, j] = part[at]
                back[int(roi[0]), c, rows[0] + at[0], columns[0] + at[1]] += top[r, c, i, j]
    return y, back


def psroi_pooled(x, rois, outputs, group, scale):
    f = np.float32
    y = np.zeros((len(rois), outputs, group, group))
    for r, roi in enumerate(rois):
        x1, y1 = (f(rounded(v)) * f(scale) for v in roi[1:3])
        x2, y2 = (f(rounded(v) + 1) * f(scale) for v in roi[3:])
        bin_h, bin_w = (f(max(b - a, f(0.1))) / f(group) for a, b in ((y1, y2), (x1, x2)))
        for d, i, j in np.ndindex(outputs, group, group):
            rows = [min(max(int(v), 0), x.shape[2]) for v in (np.floor(f(i) * bin_h + y1), np.ceil(f(i + 1) * bin_h + y1))]
            columns = [min(max(int(v), 0), x.shape[3]) for v in (np.floor(f(j) * bin_w + x1), np.ceil(f(j + 1) * bin_w + x1))]
            part = x[int(roi[0]), (d * group + i) * group + j, slice(*rows), slice(*columns)]
            y[r, d, i, j] = part.mean(dtype=float) if part.size else 0
    return y


X = numbers(2, 3, 8, 10)
X[0, 0, :4, :4] = 0.5  # ties: the first gets the gradient
for high, wide, scale in ((2, 3, 0.5), (7, 7, 0.25), (1, 1, 1.0)):
    top = numbers(len(ROIS), 3, high, wide, seed=7)
    y, back = roi_pooled(X, ROIS, high, wide, scale, top)
    text = f"roi_pooling_param {{ pooled_h: {high} pooled_w: {wide} spatial_scale: {scale} }}"
    case(f"ROIPooling {high}", layer("ROIPooling", text, "xr"), {"x": X, "r": ROIS}, {"y": y}, topdiff={"y": top},
         indiff={"x": back})
X = numbers(2, 18, 8, 10)
text = "psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.5 }"
case("PSROIPooling", layer("PSROIPooling", text, "xr"), {"x": X, "r": ROIS}, {"y": psroi_pooled(X, ROIS, 2, 3, 0.5)})
case("PSROIPooling N x 5 x 1 x 1", layer("PSROIPooling", text.replace("0.5", "0.3"), "xr"),
     {"x": X, "r": ROIS.reshape(-1, 5, 1, 1)}, {"y": psroi_pooled(X, ROIS, 2, 3, 0.3)})


# SmoothL1Loss, SoftmaxWithLoss with class weights


def smooth_l1(a, b, inside=1, outside=1, sigma=1.0):
    d = np.abs(inside * (a.astype(float) - b))
    return (outside * np.where(d < 1 / sigma**2, 0.5 * (sigma * d) ** 2, d - 0.5 / sigma**2)).sum()


A, B = numbers(3, 4, 2, 5), numbers(3, 4, 2, 5, seed=1)
INSIDE, OUTSIDE = ((numbers(3, 4, 2, 5, seed=s) > 0) * 0.7 for s in (2, 3))
case("SmoothL1Loss", layer("SmoothL1Loss", "", "ab"), {"a": A, "b": B}, {"y": smooth_l1(A, B) / 3})
case("SmoothL1Loss inside", layer("SmoothL1Loss", "", "abi"), {"a": A, "b": B, "i": INSIDE}, {"y": smooth_l1(A, B, INSIDE) / 30},
     indiff={"a": np.clip(INSIDE * (A - B), -1, 1) / 30})
case("SmoothL1Loss two tops", layer("SmoothL1Loss", "loss_weight: 1 loss_weight: 0", "abio", "ye"),
     {"a": A, "b": B, "i": INSIDE, "o": OUTSIDE},
     {"y": smooth_l1(A, B, INSIDE, OUTSIDE) / 30, "e": [[[[smooth_l1(A[n, :, i, j], B[n, :, i, j], INSIDE[n, :, i, j],
                                                                   OUTSIDE[n, :, i, j])
                                                          for j in range(5)] for i in range(2)]] for n in range(3)]})
case("SmoothL1LossOHEM of one axis", layer("SmoothL1LossOHEM", "loss_weight: 1 loss_weight: 0", "ab", "ye"),
     {"a": A[:, 0, 0, 0], "b": B[:, 0, 0, 0]},
     {"y": smooth_l1(A[:, 0, 0, 0], B[:, 0, 0, 0]) / 3,
      "e": [[[[smooth_l1(A[n, 0, 0, 0], B[n, 0, 0, 0])]]] for n in range(3)]})
case("SmoothL1Loss weights", layer("SmoothL1Loss", "smooth_l1_loss_param { sigma: 3 } loss_weight: 2", "abio"),
     {"a": A, "b": B, "i": INSIDE, "o": OUTSIDE}, {"y": smooth_l1(A, B, INSIDE, OUTSIDE, 3) / 3})
for text, divisor in {"normalization: FULL": 30, "normalize: true": 30, "normalize: false": 3, "normalization: NONE": 1}.items():
    case(f"SmoothL1Loss {text}", layer("SmoothL1Loss", f"loss_param {{ {text} }}", "ab"), {"a": A, "b": B},
         {"y": smooth_l1(A, B) / divisor})

A, B = A[:, 0, 0, 0], B[:, 0, 0, 0]
case("SmoothL1Loss N", layer("SmoothL1Loss", "loss_param { normalization: VALID }", "ab"), {"a": A, "b": B},
     {"y": smooth_l1(A, B) / 3})

SCORES, WEIGHTS = numbers(2, 4, 3, 5), np.array([0.5, 2, 0, 1.25])
LABELS = np.random.RandomState(1).choice([0, 1, 2, 3, 9], (2, 3, 5))
CHANCE = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
COUNTED = [(n, i, j) for n, i, j in np.ndindex(2, 3, 5) if LABELS[n, i, j] != 9]
LOSS = -sum(WEIGHTS[LABELS[p]] * math.log(CHANCE[p[0], LABELS[p], p[1], p[2]]) for p in COUNTED)
BACK = np.zeros_like(SCORES)
for n, i, j in COUNTED:
    k = LABELS[n, i, j]
    BACK[n, :, i, j] = WEIGHTS[k] * (CHANCE[n, :, i, j] - (np.arange(4) == k))
WEIGHING = "ignore_label: 9 weight_by_label_freqs: true " + " ".join(f"class_weighting: {w}" for w in WEIGHTS)
for text, divisor in {"": len(COUNTED), "normalize: false": 2}.items():
    case(f"SoftmaxWithLoss weighted {text}", layer("SoftmaxWithLoss", f"loss_param {{ {WEIGHING} {text} }}", "xt"),
         {"x": SCORES, "t": LABELS.astype(np.float32)}, {"y": LOSS / divisor}, indiff={"x": BACK / divisor})


# PriorBox, PriorBoxClustered


def priors(high, wide, image, sizes, step=None, offset=0.5, clip=False, variance=(0.1,)):
    """sizes: width and height of the priors of a position."""
    corners = []
    step_y, step_x = step or (np.float32(image[0] / high), np.float32(image[1] / wide))
    for i, j in np.ndindex(high, wide):
        x, y = (j + offset) * float(step_x), (i + offset) * float(step_y)
        for w, h in sizes:
            corners += [(x - w / 2) / image[1], (y - h / 2) / image[0], (x + w / 2) / image[1], (y + h / 2) / image[0]]
    corners = [min(max(v, 0), 1) for v in corners] if clip else corners
    return np.array([[corners, list(variance) * (len(corners) // len(variance))]])


ROOT, THIRD = math.sqrt, float(np.float32(1 / 3))
PRIORS = {
    "min_size: 3": dict(sizes=[(3, 3)]),
    "min_size: 3.9 max_size: 8.7 aspect_ratio: 2 clip: true": dict(  # sizes are cut
        sizes=[(3, 3), (ROOT(24), ROOT(24)), (3 * ROOT(2), 3 / ROOT(2)), (3 / ROOT(2), 3 * ROOT(2))], clip=True),
    "min_size: 4 min_size: 6 aspect_ratio: 1 aspect_ratio: 3 aspect_ratio: 3 flip: false step: 5 offset: 0.25": dict(
        sizes=[(4, 4), (4 * ROOT(3), 4 / ROOT(3)), (6, 6), (6 * ROOT(3), 6 / ROOT(3))], step=(5, 5), offset=0.25),
    "min_size: 5 max_size: 9 min_size: 10 max_size: 12 step_h: 4 step_w: 7 img_h: 40 img_w: 70 variance: 0.5": dict(
        sizes=[(5, 5), (ROOT(45), ROOT(45)), (10, 10), (ROOT(120), ROOT(120))], step=(4, 7), image=(40, 70), variance=(0.5,)),
    "min_size: 7 img_size: 50 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4": dict(
        sizes=[(7, 7)], image=(50, 50), variance=(0.1, 0.2, 0.3, 0.4)),
}
X, IMAGE = numbers(2, 4, 3, 5), numbers(1, 3, 21, 34)
for settings, facts in PRIORS.items():
    case(f"PriorBox {settings}", layer("PriorBox", f"prior_box_param {{ {settings} }}", "xi"), {"x": X, "i": IMAGE},
         {"y": priors(3, 5, **{"image": (21, 34), **facts})})
case("PriorBoxClustered", layer("PriorBoxClustered", "prior_box_param { width: 3.5 height: 8 width: 6 height: 2.25 step: 7 }", "xi"),
     {"x": X, "i": IMAGE}, {"y": priors(3, 5, (21, 34), [(3.5, 8), (6, 2.25)], (7, 7))})


# SegAccuracy


def measured(scores, labels, ignored=()):
    classes = scores.shape[1]
    counts = np.zeros((classes, classes))
    for n, i, j in np.ndindex(len(scores), *scores.shape[2:]):
        if (true := int(labels[n, 0, i, j])) not in ignored:
            best = max(range(classes), key=lambda c: (scores[n, c, i, j], c))  # the last of equal ones
            counts[true, best] += 1
    right, true, found = np.diag(counts), counts.sum(1), counts.sum(0)
    shares = [right[c] / true[c] for c in range(classes) if true[c]]
    unions = [1 if right[c] == true[c] + found[c] - right[c] else right[c] / (true[c] + found[c] - right[c])
              for c in range(classes)]
    return [[[[right.sum() / max(true.sum(), 1), sum(shares) / max(len(shares), 1), sum(unions) / classes]]]]


SCORES = numbers(2, 5, 3, 4).round(1)
SCORES[:, 4] = -9  # a class that is nowhere
SCORES[:, :, 0, 0] = 1  # ties
LABELS = np.random.RandomState(2).choice([0, 1, 2, 3, 7, 255], (2, 1, 3, 4)).astype(np.float32)
TEXT = "seg_accuracy_param { metric: PixelAccuracy ignore_label: 255 ignore_label: 7 }"
case("SegAccuracy", layer("SegAccuracy", TEXT, "xt"), {"x": SCORES, "t": LABELS}, {"y": measured(SCORES, LABELS, (7, 255))})
case("SegAccuracy without labels", layer("SegAccuracy", TEXT, "xt"), {"x": SCORES, "t": 0 * LABELS + 7},
     {"y": measured(SCORES, 0 * LABELS + 7, (7,))})
LABELS = LABELS % 5
case("SegAccuracy of all", layer("SegAccuracy", "", "xt"), {"x": SCORES, "t": LABELS}, {"y": measured(SCORES, LABELS)})


# GSTiling


def tiled(x, s, reverse):
    n, c, h, w = x.shape
    y = np.zeros((n, c // s**2, h * s, w * s) if reverse else (n, c * s**2, h // s, w // s))
    for k in range(c):
        for i in range(h):
            for j in range(w):
                if reverse:
                    tile, channel = divmod(k, c // s**2)
                    y[:, channel, i * s + tile // s, j * s + tile % s] = x[:, k, i, j]
                else:
                    y[:, (i % s * s + j % s) * c + k, i // s, j // s] = x[:, k, i, j]
    return y


X = numbers(2, 12, 4, 6)
case("GSTiling", layer("GSTiling", "gs_tiling_param { stride: 2 }"), {"x": X}, {"y": tiled(X, 2, False)})
case("GSTiling back", layer("GSTiling", "gs_tiling_param { stride: 2 reverse: true }"), {"x": X}, {"y": tiled(X, 2, True)})


# MultiStageMeanfield

U, Q, UPON = (numbers(2, 3, 4, 5, seed=s) for s in (4, 5, 6))
IMAGES = np.random.RandomState(7).uniform(-20, 20, (2, 3, 4, 5)).astype(np.float32)
MATRICES = [numbers(3, 3, seed=s) for s in (8, 9, 10)]
DONE = [meanfield(*item, (4, 9, 2.5), MATRICES, 3, upon)
        for *item, upon in zip(U, Q, IMAGES, UPON, strict=True)]
case("MultiStageMeanfield", layer("MultiStageMeanfield", "multi_stage_meanfield_param { num_iterations: 3 theta_alpha: 4 "
                                  "theta_beta: 9 theta_gamma: 2.5 spatial_filter_weight: 1 bilateral_filter_weight: 1 }", "uqi"),
     {"u": U, "q": Q, "i": IMAGES}, {"y": [top for top, *_ in DONE]}, [m[None, None] for m in MATRICES],
     topdiff={"y": UPON}, indiff={"u": [done[1] for done in DONE], "q": [done[2] for done in DONE], "i": 0 * IMAGES},
     paramdiff={i: sum(done[3][i] for done in DONE)[None, None] for i in range(3)})
