"""Figures of the papers, and of the released nets as others scored them: what tables and recipes are held
against.

Long, Shelhamer, Darrell, CVPR 2015 (arXiv:1411.4038), Tables 1 to 5. Scores are pixel accuracy, mean
accuracy, mean IU and frequency weighted IU, in percent; None where none is given.
"""

Figures = tuple[float | None, ...]


def _mean_iu(value: float) -> Figures:
    return None, None, value, None


PAPER: dict[str, Figures] = {
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
    "siftflow-fcn16s": (85.2, 51.7, 39.5, 76.1, 94.3),  # the last: accuracy of Table 5's other task
    "pascalcontext-fcn32s": _mean_iu(31.8),
    "pascalcontext-fcn16s": _mean_iu(34.8),
    "pascalcontext-fcn8s": _mean_iu(35.1),
}
RELEASED: dict[str, Figures] = {  # the same split, scored by others
    "voc-fcn32s": (90.5, 76.5, 63.6, 83.5),
    "voc-fcn16s": (91.0, 78.1, 65.0, 84.3),
    "voc-fcn8s": (91.2, 77.6, 65.5, 84.5),
    "voc-fcn8s-atonce": (91.1, 78.5, 65.4, 84.4),
    "voc-fcn-alexnet": _mean_iu(48.0),
}
VERIFIED = ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s")  # the released nets that `verify` scores
# mean IU; milliseconds forward, 500x500, on a K40c; convolution layers; million parameters; receptive field;
# maximum stride
TABLE1: dict[str, Figures] = {
    "voc-fcn-alexnet": (39.8, 50, 8, 57.0, 355, 32),
    "voc-fcn32s": (56.0, 210, 16, 134.0, 404, 32),
    "voc-fcn-googlenet": (42.5, 59, 22, 6.0, 907, 32),
}
# mean IU on the test servers of VOC 2011 and 2012, and milliseconds of inference
TABLE3: dict[str, Figures] = {
    "R-CNN": (47.9, None, None),
    "SDS": (52.6, 51.6, 50_000),
    "voc-fcn8s": (62.7, 62.2, 175),
}
OTHERS: dict[str, dict[str, Figures]] = {  # data set -> neighbours from other papers
    "camvid": {  # 233 test images at 480x360, 11 classes, as Jegou et al. 2017 (arXiv:1611.09326) list them
        "FCN-8s, all layers from ILSVRC": (88.0, None, 57.0, None),
        "SegNet, ILSVRC encoder": (None, None, 46.4, None),
    },
}
REMARKS = {  # table -> what its figures need said
    1: "The paper's times are a K40c's, of images of 500x500; its 907 counts the final 7x7 pooling, which "
       "the net leaves out.",
    3: "Only the servers can score their test images; here inference is timed on an image of 500x500.",
}
