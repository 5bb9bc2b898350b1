"""Several passes of one image through a net that draws at random: their mean, and how far they differ."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..base.errors import Error
from ..net.graph import Graph
from ..net.judged import softmaxed
from ..net.module import Net

UNCERTAINTY = "uncertainty"  # what is given beside the mean


class Draws(NamedTuple):
    """How often an image is seen, and where the random numbers begin, for each image anew."""

    samples: int
    seed: int = 0


class Sampled:
    """A net that gives the mean of its probabilities over samples, to be used like it: Bayesian SegNet.

    Its Dropout drops in TEST too (sample_weights_test), so each pass draws other units. Images are seen one
    pass after the other, which equals a batch of copies, needs the memory of one, and lets each image have
    its own size. The net runs layer by layer and not as its plan, whose layout of memory, and with it which
    unit gets which random number, is not the same everywhere. What comes back are the logarithms of the mean
    probabilities, the mean itself for a blob that is a Softmax's; and with it the uncertainty: the variance
    over samples (divided by their number, as numpy's), in the mean over classes, as the release's
    test_bayesian_segnet.py has it.
    """

    losses: Mapping[str, float] = {}

    def __init__(self, net: Net, blob: str, draws: Draws) -> None:
        """net: of images alone. blob: its scores. Raises Error for a net that draws nothing on the way to
        them, whose samples would all be one."""
        self.looking, self.device, self.draws = net, net.device, draws
        self.odds = softmaxed(net.graph, blob)
        if not random(net.graph):
            raise Error(f"net '{net.graph.name}' drops nothing in TEST, so all samples of an image would be "
                        "the same; give its Dropout layers dropout_param { sample_weights_test: true }")

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        """The mean blob want[0], N x C x H x W, and UNCERTAINTY, N x 1 x H x W; inputs: those of the net."""
        blob, images = want[0], {name: inputs[name].contiguous() for name in self.looking.graph.inputs}
        kind = "cuda" if self.device.type == "cpu" else self.device.type
        with torch.random.fork_rng([] if self.device.type == "cpu" else [self.device], device_type=kind):
            torch.manual_seed(self.draws.seed)
            mean, squares = self._passes(images, blob)
        scores = mean if self.odds else mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        return {blob: scores, UNCERTAINTY: (squares / self.draws.samples).mean(1, keepdim=True)}

    def _passes(self, images: Mapping[str, Tensor], blob: str) -> tuple[Tensor, Tensor]:
        """Mean, and sum of squared differences from it, kept up sample by sample (Welford): one sample's
        memory, and no difference of large sums."""
        mean = squares = torch.zeros(())
        for number in range(1, self.draws.samples + 1):
            scores = self.looking(images, [blob])[blob].float()
            odds = scores if self.odds else scores.softmax(1)
            if number == 1:
                mean, squares = odds.clone(), torch.zeros_like(odds)
                continue
            away = odds - mean
            mean += away / number
            squares += away * (odds - mean)
        return mean, squares


def random(made: Graph) -> bool:
    """Whether two passes of a graph in its phase draw different numbers."""
    return any(node.op.draws for node in made.nodes)
