"""Small trees of files in the layout of 38-Cloud's test and training split, for tests."""

import numpy as np
from PIL import Image

from netspec.data.patches import Grid

BANDS = ("red", "green", "blue", "nir")
RNG = np.random.default_rng(6)


def tiff(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="TIFF")
    return array


def scene(root, name, size, split="test", side=384, skip=()):
    """A scene of random blocks, its patches below root, and its truth; bands (H, W, 4) uint16, truth (H, W) uint8.

    skip: rows and columns of patches that are not written. The list has them all.
    """
    blocks = RNG.integers(0, 2, [-(-n // 40) for n in size]).astype(np.uint8)
    truth = blocks.repeat(40, 0).repeat(40, 1)[: size[0], : size[1]]
    noise = RNG.integers(0, 20000, (*size, 4))
    bands = (noise + truth[..., None] * np.uint16(25000)).astype(np.uint16)
    grid = Grid.of(size, side)
    folder, short = root / f"38-Cloud_{split}", split[:5]
    masks = dict(grid.cut(truth * np.uint8(255)))
    names = []
    for at, patch in grid.cut(bands):
        names.append(f"patch_{grid.number(*at)}_{at[0]}_by_{at[1]}_{name}")
        if at in skip:
            continue
        for band, pixels in zip(BANDS, np.moveaxis(patch, -1, 0), strict=True):
            tiff(folder / f"{short}_{band}/{band}_{names[-1]}.TIF", np.ascontiguousarray(pixels))
        if split != "test":
            tiff(folder / f"{short}_gt/gt_{names[-1]}.TIF", masks[at])
    tiff(folder / f"Entire_scene_gts/edited_corrected_gts_{name}.TIF", truth)
    with (folder / f"{split}_patches_38-Cloud.csv").open("a") as file:
        file.write("".join(f"{line}\n" for line in (["name"] if not file.tell() else []) + names))
    return bands, truth
