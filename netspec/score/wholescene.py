"""A net of 38-Cloud's patches: the protocols, what its scores mean, and whole scenes through it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..data.opencv import nearest
from ..data.patches import SIDE, Grid
from ..data.resizing import cubic, shrunk
from ..net.graph import Graph
from ..net.judged import softmaxed
from ..net.module import Net
from ..net.plan import Plan
from .averaged import Averaged
from .engined import Engined
from .sampled import Sampled

Looking = Net | Plan | Engined | Averaged | Sampled


class Protocol(NamedTuple):
    """How patches become a scene's mask: the sides of what the net sees, and whether its map is cut first and
    the mask resized, or resized first."""

    side: int
    cut_first: bool

    def __str__(self) -> str:
        seen = f"patches at {self.side}x{self.side}" + ("" if self.side < SIDE else ", as they are")
        then = ("cut at the threshold, then resized (nearest)" if self.cut_first
                else "resized (cubic) where they have another size, then cut at the threshold")
        return f"{seen}; probabilities {then}; scenes put together of {SIDE}x{SIDE}"

    def enlarged(self, probable: np.ndarray) -> np.ndarray:
        """A patch's map as (SIDE, SIDE), to be cut: cut before or after, the nearest pixel is the same."""
        if self.cut_first:
            return nearest(probable, SIDE, SIDE)
        return probable if probable.shape == (SIDE, SIDE) else cubic(probable, SIDE, SIDE)


PROTOCOLS = {"38cloud": Protocol(192, True), "38cloud-released": Protocol(SIDE, False)}


def protocol(name: str) -> Protocol:
    """One of PROTOCOLS; Error, of the option --protocol, for another name."""
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    raise Error(f"--protocol: '{name}' is not known{closest(name, PROTOCOLS)} (known: "
                f"{', '.join(PROTOCOLS)})")


def cloudy(made: Graph, blob: str, scores: Tensor, of: str) -> np.ndarray:
    """The probability of cloud, float32 (N, H, W), of a net's scores (N, 2 or 1, H, W), which may be
    probabilities already. Raises Error where they are NaN; `of` is what they are of."""
    scores = scores.float()
    if scores.shape[1] == 1:
        probable = (scores if softmaxed(made, blob, "Sigmoid") else scores.sigmoid())[:, 0]
    else:
        probable = (scores if softmaxed(made, blob) else scores.softmax(1))[:, 1]
    found = probable.cpu().numpy()
    if np.isnan(found).any():
        raise Error(f"{of}: the scores are no numbers (NaN), so no class can be told; 'netspec doctor NET "
                    "WEIGHTS' says where they come from")
    return found


class SceneNet:
    """The probability of cloud in scenes of any size, patch by patch."""

    def __init__(self, made: Graph, looking: Looking, blob: str, top: str,
                 mean: Sequence[float] | np.ndarray, protocol: Protocol, margin: int = 0) -> None:
        """top: what the net reads. mean: of each band from 0 to 255, in the net's order. margin: pixels of
        its neighbours that each patch is seen with on all sides; the protocols have none. Raises Error for a
        margin that the protocol's resizing does not leave whole, or wider than a patch."""
        self.made, self.looking, self.blob, self.protocol, self.margin = made, looking, blob, protocol, margin
        self.top, self.mean = top, np.asarray(mean, np.float32)
        if margin * protocol.side % SIDE or not 0 <= margin <= SIDE:
            raise Error(f"a margin of {margin} pixels is not from 0 to {SIDE}, or no whole number where "
                        f"patches are seen at {protocol.side}x{protocol.side}; give an even one")

    def maps(self, name: str, pixels: np.ndarray, scale: float = 1.0, grid: Grid | None = None
             ) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Row and column of each patch, and its probabilities as the protocol has them before they are cut,
        float32 (SIDE, SIDE).

        name: of the scene, for errors. pixels: (H, W, bands), and what makes them numbers from 0 to 255;
        zeros are around the scene. grid: of patches, if not the least.
        """
        grid, margin = grid or Grid.of((pixels.shape[0], pixels.shape[1])), self.margin
        around = np.zeros((grid.rows * SIDE + 2 * margin, grid.columns * SIDE + 2 * margin, pixels.shape[2]),
                          pixels.dtype)
        end = -margin or None
        grid.inner(around[margin:end, margin:end])[:] = pixels
        for row, column in grid.places():
            top, left = (row - 1) * SIDE, (column - 1) * SIDE
            seen = around[top : top + SIDE + 2 * margin, left : left + SIDE + 2 * margin]
            yield (row, column), self._patch(f"{name}, patch {row}_by_{column}", seen, scale)

    def _patch(self, of: str, pixels: np.ndarray, scale: float) -> np.ndarray:
        side = len(pixels) * self.protocol.side // SIDE
        fed = shrunk(pixels.astype(np.float32), side, side).astype(np.float32) * np.float32(scale) - self.mean
        blob = torch.from_numpy(np.ascontiguousarray(fed.transpose(2, 0, 1))[None])
        with torch.inference_mode():
            scores = self.looking({self.top: blob.to(self.looking.device)}, [self.blob])[self.blob]
        probable = cloudy(self.made, self.blob, scores, of)[0]
        beside = self.margin * len(probable) // len(pixels)
        end = -beside or None
        return self.protocol.enlarged(probable[beside:end, beside:end])
