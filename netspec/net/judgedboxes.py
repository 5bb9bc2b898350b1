"""What a net that finds objects is judged by: its detections beside the truth, in scoring and in a solver's
tests."""

from collections.abc import Mapping

from torch import Tensor

from ..base.errors import Error
from ..data.boxes import Record
from ..data.detection import DetectionData
from .detections import SCORES, BoxReader
from .graph import Graph
from .precision import Truth


class JudgedBoxes:
    """A TEST net's detections, and the boxes to compare them with.

    names: of the classes, the background first. source: the layer that gives the boxes, of `total` images.
    blobs: those that `compare` reads; the rows of the last three, which `reader` reads, are regions.
    """

    def __init__(self, made: Graph, score_blob: str = SCORES) -> None:
        """Raises Error for a net without its blobs, or whose images do not come as one pass over a list."""
        self.graph, self.reader = made, BoxReader(made, score_blob)
        found = next((node for node in made.sources if isinstance(node.op, DetectionData)), None)
        if found is None or not isinstance(found.op, DetectionData):
            raise Error(f"net '{made.name}' has no data layer that gives boxes; scoring needs a val net, "
                        "infer none")
        self.source, self.total = found.op, len(found.op)
        if self.source.randomize:
            raise self.source.error("draws images at random, but scores are of each image once: score a val "
                                    "net, or give param_str 'randomize': False")
        self.names = self.source.facts.names
        if len(self.names) != self.reader.classes:
            raise self.source.error(f"has {len(self.names)} classes with the background, and '{score_blob}' "
                                    f"{self.reader.classes}")
        self.info = found.tops[1].blob
        self.blobs = (self.info, *self.reader.blobs)

    def compare(self, blobs: Mapping[str, Tensor], position: int) -> tuple[Record, Tensor]:
        """The image of the batch at a position, as its file has it, and the detections in it (D x 6, see
        detections.py). blobs: those named in `blobs`. Raises Error, with the image's name, for NaN."""
        record = self.source.record(self.source.index(position)[0])
        try:
            return record, self.reader(blobs, record.size[::-1], float(blobs[self.info][0, 2]))
        except Error as error:
            raise Error(f"{self.source.describe(position)}: {error}") from None


def truth_of(record: Record) -> Truth:
    """What is to be found in an image; what is found of a crowd counts neither way."""
    return Truth(record.boxes, record.classes, record.difficult | record.crowd)
