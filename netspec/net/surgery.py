"""Operations on the parameters of whole nets, as the FCN release's surgery does them."""

import argparse
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from ..base.errors import Error, closest
from ..base.files import find
from ..proto.model import read_weights, write_weights
from . import weights
from .deploy import deploy
from .module import Net


def bilinear_kernel(size: int) -> np.ndarray:
    """The size x size kernel that upsamples by (size + 1) // 2 with bilinear interpolation, float32."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    along = 1 - abs(np.arange(size) - center) / factor
    return np.outer(along, along).astype(np.float32)


def interp(net: Net, layers: Iterable[str]) -> None:
    """Make deconvolution layers bilinear upsampling: the kernel on the diagonal of the channels, zero elsewhere."""
    params = net.layers_with_params()
    for layer in layers:
        weight = params[layer][0]
        outer, inner, h, w = weight.shape
        if h != w or inner not in (1, outer):
            raise Error(f"layer '{layer}': bilinear upsampling needs a square kernel and as many inputs as outputs, "
                        f"found {list(weight.shape)}")
        with torch.no_grad():
            weight.zero_()
            rows = torch.arange(outer)
            weight[rows, rows if inner == outer else 0] = torch.from_numpy(bilinear_kernel(h)).to(weight.device)


def unfilled_upsampling(net: Net) -> list[str]:
    """Deconvolution layers that the prototxt gives no weight_filler: the ones that `interp` is for."""
    return [n.name for n in net.graph.nodes if n.type == "Deconvolution"
            and not n.op.layer.convolution_param.HasField("weight_filler") and n.op.dims == 2]


def interp_missing(net: Net, missing: Iterable[str]) -> list[str]:
    """Make those of the layers that are unfilled upsampling bilinear, as `solve` does; the others of them."""
    missing = list(missing)
    bilinear = [name for name in unfilled_upsampling(net) if name in missing]
    interp(net, bilinear)
    return [name for name in missing if name not in bilinear]


def grown(blob: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A blob (outputs, inputs, ...) widened to `shape`: a new input gets the mean of the old ones, a new output zeros.

    That is how colour weights come to read depth, and the scores of k classes to begin those of more. A blob of
    another kind is returned as it is.
    """
    if len(shape) != blob.ndim or tuple(shape[2:]) != blob.shape[2:] or (np.array(blob.shape) > shape).any():
        return blob
    if blob.ndim > 1:
        extra = np.repeat(blob.mean(1, keepdims=True), shape[1] - blob.shape[1], axis=1)
        blob = np.concatenate([blob, extra.astype(blob.dtype)], 1)
    return np.concatenate([blob, np.zeros((shape[0] - blob.shape[0], *blob.shape[1:]), blob.dtype)])


def transplant(net: Net, read: Mapping[str, Sequence[np.ndarray]], change: str = "") -> list[list[str]]:
    """Copy weights into the layers of a net under other names; rows of (layer, from, shapes).

    change: OLD=NEW renames one layer, other text is what the net's names end in. Fully connected weights fit
    convolutions, and `grown` widens. Raises Error if nothing fits.
    """
    params = net.layers_with_params()
    old, _, new = change.rpartition("=")
    if old and (old not in read or new not in params):
        missing, known, where = (old, read, "the weights") if old not in read else (new, params, "the net")
        raise Error(f"layer '{missing}' is not in {where}{closest(missing, known)}")
    names = {name: (new if name == old else name) if old else name + change for name in read}
    renamed = {}
    for name, blobs in read.items():
        target = params.get(names[name], ())
        if target and len(target) == len(blobs):
            renamed[names[name]] = [grown(np.asarray(b), p.shape) for b, p in zip(blobs, target, strict=True)]
    if not renamed:
        raise Error(f"no layer of net '{net.graph.name}' has a name from the weights{f' ending in {change!r}' if change else ''}")
    report = weights.copy(renamed, params)
    return [[name, next(k for k, v in names.items() if v == name), report.shapes[name]] for name in renamed]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET.prototxt")
    parser.add_argument("out", metavar="OUT", help="the weights to write: the layers that got any")
    parser.add_argument("files", nargs="+", metavar="FILE[:SUFFIX|:OLD=NEW]",
                        help="weights; names get the suffix, or one layer another name")


def run(args: argparse.Namespace) -> int:
    """The `convert transplant` command: weights of several files, under the names of one net."""
    net = Net(deploy(find(args.net, what="net"), losses=True))
    filled = set()
    for given in args.files:
        name, _, change = given.partition(":")
        path = find(name, what="weights")
        try:
            rows = transplant(net, read_weights(path), change)
        except Error as e:
            raise Error(f"{given}: {e}") from None
        filled |= {row[0] for row in rows}
        print("\n".join(f"{layer} <- {old} of {path} {shapes}" for layer, old, shapes in rows))
    write_weights(args.out, net.graph.name, {k: v for k, v in weights.layers_of(net).items() if k in filled},
                          hdf5=args.out.endswith(".h5"))
    left = [name for name in net.layers_with_params() if name not in filled]
    print(f"{len(filled)} layers -> {args.out}; without weights: {', '.join(left) or 'none'}")
    return 0
