"""What `netspec caffe` does with databases: from images, to a mean, and of what a net makes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error
from ..base.files import find, writing
from ..base.log import Log
from .finding import find_net, find_weights
from .options import note

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.module import Net


def device(gpus: Sequence[int]) -> str:
    """The first of some GPUs, of which there may be none; the CPU where no GPU is, which is said."""
    from ..base.machine import gpu

    found = gpu(gpus[0]) if gpus else "cpu"
    if not found:
        note("no GPU is here; nets run on the CPU")
    return found or "cpu"


def net(model: str, weights: str, device: str, **state: Any) -> "Net":
    """A net in phase TEST with weights; what a person should know of them is said."""
    from ..net.build import load
    from ..score import predict

    path = find_net(model)
    made, remarks = predict.load(load(path, **state), find_weights(weights, path), device)
    for remark in remarks:
        note(remark)
    return made


def passes(net: "Net", number: int, want: Sequence[str]) -> "Iterator[dict[str, Tensor]]":
    """The blobs that are wanted of so many batches of a net's own data."""
    import torch

    from ..data.feed import Batches

    with closing(Batches(net.graph.readers, net.device)) as batches:
        for _ in range(number):
            with torch.no_grad():
                found = net(batches.next(), want=want)
            yield found


def convert(flags: dict[str, Any], words: list[str], said: Log) -> None:
    """Images of a list into a database. As Caffe, it goes on past those that cannot be read."""
    import numpy as np
    import torch

    from ..base.machine import check_room
    from ..data import databases
    from ..data.images import decode, open_image
    from ..data.listed import labelled
    from ..data.opencv import resize
    from ..proto.text import read_lines
    from ..pycaffe.io import array_to_datum

    root, (listed, out), size = words[0], words[1:], (flags["resize_height"], flags["resize_width"])
    lines, put_in, first = labelled(read_lines(find(listed, what="list")), Path(listed)), 0, 0
    if flags["shuffle"]:
        lines = [lines[at] for at in np.random.default_rng(0).permutation(len(lines))]
    if min(size) > 0:  # 3 channels of uint8, and of int32 three times on the way
        check_room(3 * 13 * size[0] * size[1], torch.device("cpu"), "resizing images so takes",
                   "make them smaller")
    said("convert_imageset.cpp:89", f"A total of {len(lines)} images.")
    with databases.creating(Path(out)) as put:
        for number, line in enumerate(lines):
            path = Path(root + line.image)
            try:
                pixels = decode(open_image(path), f"image {path}", not flags["gray"])
            except Error as error:
                said("io.cpp:78", f"left out: {error}", "E")
                continue
            pixels = resize(pixels, *size) if min(size) > 0 else pixels
            first = first or pixels.size
            if flags["check_size"] and pixels.size != first:
                raise Error(f"image {path} has {pixels.size} numbers, and the first one {first}; "
                            "-resize_height and -resize_width make them alike")
            if flags["encoded"] or flags["encode_type"]:
                datum = databases.encoded(path, pixels, line.label, flags["encode_type"], max(size) > 0)
            else:
                datum = array_to_datum(pixels, line.label)
                datum.encoded = False  # which Caffe writes too
            put(f"{number:08d}_{line.image}", datum)
            put_in += 1
            if put_in % 1000 == 0:
                said("convert_imageset.cpp:147", f"Processed {put_in} files.")
        if not put_in:
            raise Error(f"{listed}: no image that it names can be read; '{root}' stands before each name: "
                        "is a / missing at its end?")
    said("convert_imageset.cpp:153", f"Processed {put_in} files.")


def mean(flags: dict[str, Any], words: list[str], said: Log) -> None:
    """The mean image of a database, and of each channel."""
    import numpy as np

    from ..data.databases import mean_of

    blob, number = mean_of(words[0])
    said("compute_image_mean.cpp:101", f"Processed {number} files.")
    for out in words[1:]:
        said("compute_image_mean.cpp:108", f"Write to {out}")
        with writing(out) as file:
            file.write(blob.SerializeToString())
    said("compute_image_mean.cpp:114", f"Number of channels: {blob.channels}")
    for channel, value in enumerate(np.array(blob.data).reshape(blob.channels, -1).mean(1)):
        said("compute_image_mean.cpp:119", f"mean_value channel [{channel}]: {value:g}")


def extract(flags: dict[str, Any], words: list[str], said: Log) -> None:
    """Blobs of a net into databases, an entry an image."""
    from ..data.databases import creating
    from ..pycaffe.io import array_to_datum

    blobs, outs = words[2].split(","), words[3].split(",")
    number, kind, where, which = *words[4:], *["CPU", "0"][len(words) - 6 :]
    which = which.removeprefix("DEVICE_ID=")
    if len(blobs) != len({*outs}):
        raise Error(f"each blob needs a database of its own, found {words[2]} and {words[3]}")
    if not (number.isdecimal() and int(number) and which.isdecimal()) or kind != "lmdb":
        raise Error(f"expected the number of batches, lmdb, and CPU or GPU N; found {' '.join(words[4:])}")
    made = net(words[1], words[0], device([int(which)] if where == "GPU" else []))
    done, found = [0] * len(outs), passes(made, int(number), blobs)
    first = next(found)  # processes that read are forked before databases are open
    with ExitStack() as stack:
        puts = [stack.enter_context(creating(Path(out))) for out in outs]
        for given in chain([first], found):
            for i, name in enumerate(blobs):
                values = given[name].float().cpu().numpy()
                if values.ndim > 4:
                    raise Error(f"blob '{name}' has {values.ndim} axes; a database keeps 4 at most")
                for row in values.reshape(*values.shape, *[1] * (4 - values.ndim)):
                    puts[i](f"{done[i]:010d}", array_to_datum(row))
                    done[i] += 1
    for name, rows in zip(blobs, done, strict=True):
        said("extract_features.cpp:176", f"Extracted features of {rows} query images for feature blob {name}")
    said("extract_features.cpp:181", "Successfully extracted the features!")
