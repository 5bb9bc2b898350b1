"""Figures of the papers, and of the released nets as others scored them: what tables and recipes are held against.

Long, Shelhamer, Darrell, CVPR 2015 (arXiv:1411.4038), Tables 1 to 5. Scores are pixel accuracy, mean accuracy,
mean IU and frequency weighted IU, in percent; None where none is given.
"""

Scores = tuple[float | None, float | None, float | None, float | None]


def _mean_iu(value: float) -> Scores:
    return None, None, value, None


PAPER: dict[str, Scores] = {
    "voc-fcn-alexnet": _mean_iu(39.8),
    "voc-fcn-googlenet": _mean_iu(42.5),
    "voc-fcn32s-fixed": (83.0, 59.7, 45.4, 72.0),
    "voc-fcn32s": (89.1, 73.3, 59.4, 81.4),
    "voc-fcn16s": (90.0, 75.7, 62.4, 83.0),
    "voc-fcn8s": (90.3, 75.9, 62.7, 83.2),
    "nyud-fcn32s-color": (60.0, 42.2, 29.2, 43.9),
    "nyud-fcn32s-color-d": (61.5, 42.4, 30.5, 45.5),
    "nyud-fcn32s-hha": (57.1, 35.2, 24.2, 40.4),
    "nyud-fcn32s-color-hha": (64.3, 44.9, 32.8, 48.0),
    "nyud-fcn16s-color-hha": (65.4, 46.1, 34.0, 49.5),
    "siftflow-fcn16s": (85.2, 51.7, 39.5, 76.1),
    "pascalcontext-fcn32s": _mean_iu(31.8),
    "pascalcontext-fcn16s": _mean_iu(34.8),
    "pascalcontext-fcn8s": _mean_iu(35.1),
}
RELEASED: dict[str, Scores] = {  # the same split, scored by others
    "voc-fcn32s": (90.5, 76.5, 63.6, 83.5),
    "voc-fcn16s": (91.0, 78.1, 65.0, 84.3),
    "voc-fcn8s": (91.2, 77.6, 65.5, 84.5),
    "voc-fcn8s-atonce": (91.1, 78.5, 65.4, 84.4),
    "voc-fcn-alexnet": _mean_iu(48.0),
}
