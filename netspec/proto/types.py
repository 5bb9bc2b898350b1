"""The layer types that the schema knows, and where each one's settings stand."""

from typing import Any

from .caffe_pb2 import LayerParameter
from .unread import UNREAD

FIELDS: dict[str, Any] = dict(LayerParameter.DESCRIPTOR.fields_by_name)  # to which own.py adds
MESSAGES = {  # type -> its own message: "BatchNorm" -> "batch_norm_param"
    field.message_type.name.removesuffix("Parameter"): name
    for name, field in reversed(FIELDS.items())  # of two fields of one message the first counts
    if field.message_type and name.endswith("_param")
}
_BORROWED = {  # types with another type's message
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "LSTM": "recurrent_param",
    "RNN": "recurrent_param",
    "SoftmaxWithLoss": "softmax_param",
}
_OF_FORKS = {"AnnotatedData": "data_param", "Axpy": "", "ImageLabelmapData": "image_data_param",
             "ImageSegData": "image_data_param", "NdPooling": "pooling_param", "Pooling3D": "pooling_param",
             "PriorBoxClustered": "prior_box_param", "ROIAlign": "roi_pooling_param",
             "SmoothL1LossOHEM": "loss_param", "SoftmaxWithLossOHEM": "softmax_param"} | dict.fromkeys(
    "ConvolutionDepthwise Convolution3D Deconvolution3D DepthwiseConvolution NdConvolution".split(),
    "convolution_param")  # the same, of forks
_PLAIN = """AbsVal BNLL BatchReindex EuclideanLoss Filter LSTMUnit MultinomialLogisticLoss
    SigmoidCrossEntropyLoss Silence Split""".split()  # types without settings, or with those of all losses
_SHARED = {"BBoxReg", "Hints", "Loss", "Recurrent", "Transformation"}  # messages that are no type's own

TYPES = sorted({*MESSAGES, *_BORROWED, *_OF_FORKS, *_PLAIN} - _SHARED)
# Those of BVLC Caffe; the fields of forks have numbers from 1000 on
CAFFE = {name for name in TYPES if name not in _OF_FORKS
         and (name not in MESSAGES or FIELDS[MESSAGES[name]].number < 1000)}


def keywords(type_name: str) -> dict[str, str]:
    """The keywords of this type, besides LayerParameter's fields -> the field of LayerParameter for each."""
    found: dict[str, str] = {}
    for field in reversed(own_fields(type_name)):  # the first has precedence
        message = FIELDS[field].message_type
        names = message.fields_by_name if message else ()
        found |= {name: field for name in names if name != UNREAD}
    return found


def own_fields(type_name: str) -> list[str]:
    """The fields of LayerParameter whose own fields may be written as keywords of this type."""
    own = [{**MESSAGES, **_BORROWED, **_OF_FORKS}.get(type_name)]
    if "Loss" in type_name:
        own.append("loss_param")
    if type_name.endswith("Data"):
        own.append("transform_param")
    return list(dict.fromkeys(filter(None, own)))
