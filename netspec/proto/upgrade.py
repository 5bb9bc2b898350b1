"""Brings nets and solvers written for older Caffes (V0, V1, `input:`, ...) to the current form, in place.

The results are those of Caffe's own upgrade (src/caffe/util/upgrade_proto.cpp), done on every file it reads.
"""

import logging
import re
from contextlib import suppress
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from ..base.errors import Error, closest
from .caffe_pb2 import LayerParameter, NetParameter, SolverParameter, V0LayerParameter, V1LayerParameter
from .types import TYPES
from .unread import UNREAD

_log = logging.getLogger("netspec")

# V0 type -> V1 type. A V0 field goes into the parameter message of the V1 type, if that has one of its name.
_V0_TYPES = {name: name.upper() for name in (
    "accuracy bnll concat data dropout euclidean_loss flatten hdf5_data hdf5_output im2col infogain_loss lrn "
    "multinomial_logistic_loss relu sigmoid softmax softmax_loss split tanh window_data").split()}
_V0_TYPES |= {"conv": "CONVOLUTION", "images": "IMAGE_DATA", "innerproduct": "INNER_PRODUCT",
              "pool": "POOLING"}
_V0_RENAMED = {"biasterm": "bias_term", "kernelsize": "kernel_size", "batchsize": "batch_size",
               "shuffle_images": "shuffle", "meanfile": "mean_file", "cropsize": "crop_size"}
_V0_SHARED = ("name", "blobs", "blobs_lr", "weight_decay")
_V0_IGNORED = ("new_num", "new_channels")  # of a ReshapeLayer that Caffe never upgraded

# V1 type, without underscores -> the current one. BVLC Caffe had no CROP; those of the forks find the offset
# themselves.
_V1_TYPES = {name.upper(): name for name in TYPES} | {
    "NONE": "", "CROP": "AutoCrop", "SOFTMAXLOSS": "SoftmaxWithLoss", "IMAGESEGDATA": "ImageSegData",
    "VIDEODATA": "VideoData"}
_V1_SHARED = {*V1LayerParameter.DESCRIPTOR.fields_by_name} & {*LayerParameter.DESCRIPTOR.fields_by_name} - {
    "type", "param"}
_V1_PARAM = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult",
             "weight_decay": "decay_mult"}
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")

_SOLVER_TYPES = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp",
                 "ADADELTA": "AdaDelta", "ADAM": "Adam"}


def upgrade_net(net: NetParameter, name: str = "net") -> None:
    """Upgrades a NetParameter, from text or binary, in place; a current one stays as it is.

    Raises Error, beginning with `name` (a file, say), for what Caffe refuses, such as `layer` and `layers` in
    one net.
    """
    if any(layer.HasField("layer") for layer in net.layers):
        _fold_v0_padding(net, name)
        for layer in net.layers:
            _upgrade_v0_layer(layer, name)
    _upgrade_v1_transform(net)
    if net.layers:
        if net.layer:
            raise Error(f"{name}: the net has both 'layer' and 'layers' fields; write all of them as 'layer'")
        for old in net.layers:
            _upgrade_v1_layer(old, net.layer.add())
        net.ClearField("layers")
    if net.input:
        _upgrade_input(net, name)
    for new in net.layer:
        _rename_3d(new)
        _upgrade_settings(new)


def _upgrade_settings(new: LayerParameter) -> None:
    if new.convolution_param.HasField("hole"):
        new.convolution_param.dilation.append(new.convolution_param.hole)
        new.convolution_param.ClearField("hole")
    if new.type == "BatchNorm" and len(new.param) == 3:  # statistics, which the solver must not move
        for param in new.param:
            param.lr_mult = param.decay_mult = 0


def upgrade_solver(solver: SolverParameter, name: str = "solver") -> None:
    """Upgrades a SolverParameter in place: `solver_type`, an enum, to `type`, a string, and the nets inside.

    Raises Error, beginning with `name`, if both kinds of type are given.
    """
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            raise Error(f"{name}: the solver has both 'solver_type', the old field, and 'type'; keep 'type'")
        solver.type = _SOLVER_TYPES[SolverParameter.SolverType.Name(solver.solver_type)]
        solver.ClearField("solver_type")
    for field in ("net_param", "train_net_param"):
        if solver.HasField(field):
            upgrade_net(getattr(solver, field), f"{name}: {field}")
    for net in solver.test_net_param:
        upgrade_net(net, f"{name}: test_net_param")


def _put(message: Message, field: str, value: Any) -> None:
    """Sets any kind of field; a repeated one is extended by a repeated value, or by one value."""
    target = getattr(message, field)
    if isinstance(target, Message):
        target.CopyFrom(value)
        target.SetInParent()
    elif hasattr(target, "extend"):
        target.extend(value if hasattr(value, "extend") else [value])
    else:
        setattr(message, field, value)


def _fold_v0_padding(net: NetParameter, name: str) -> None:
    """Removes V0's padding layers, giving their pad to the convolution or pooling above."""
    last: dict[str, V1LayerParameter | None] = dict.fromkeys(net.input)  # blob -> what wrote it last
    for connection in net.layers:
        layer = connection.layer
        where = f"{name}: layer '{layer.name}' ({layer.type})"
        for i, blob in enumerate(connection.bottom):
            if blob not in last:
                raise Error(f"{where} has the unknown bottom '{blob}'{closest(blob, last)}")
            source = last[blob]
            if source is None or source.layer.type != "padding":
                continue
            if layer.type not in ("conv", "pool") or len(connection.bottom) != 1:
                raise Error(f"{where} follows the padding layer '{source.layer.name}'; "
                            "only a conv or pool layer with one bottom can")
            if len(source.bottom) != 1 or len(source.top) != 1:
                raise Error(f"{name}: padding layer '{source.layer.name}' must have one bottom and one top")
            layer.pad = source.layer.pad
            connection.bottom[i] = source.bottom[0]
        last.update(dict.fromkeys(connection.top, connection))
    for i in reversed(range(len(net.layers))):
        if net.layers[i].layer.type == "padding":
            del net.layers[i]


def _upgrade_v0_layer(v1: V1LayerParameter, name: str) -> None:
    """Moves the fields of the nested V0 `layer` into the V1 layer around it."""
    if not v1.HasField("layer"):
        return
    v0 = V0LayerParameter()
    v0.CopyFrom(v1.layer)
    v1.ClearField("layer")
    kind = _V0_TYPES.get(v0.type, "")
    if kind:
        v1.MergeFrom(V1LayerParameter(type=kind))
    elif v0.HasField("type"):
        hint = closest(v0.type, _V0_TYPES)
        raise Error(f"{name}: layer '{v0.name}' has the unknown V0 type '{v0.type}'{hint}")
    param: Any = getattr(v1, f"{kind.lower()}_param", None)
    for field, value in v0.ListFields():
        new = _V0_RENAMED.get(field.name, field.name.removeprefix("det_"))
        if field.name == UNREAD:
            _put(v1, UNREAD, value)
        elif new in _TRANSFORM:
            setattr(v1.transform_param, new, value)
        elif hasattr(param, new) and (new, v0.type) != ("shuffle", "hdf5_data"):  # which is younger than V0
            _put(param, new, value)
        elif field.name in _V0_SHARED or (field.name, v0.type) == ("hdf5_output_param", "hdf5_output"):
            _put(v1, field.name, value)
        elif field.name not in ("type", *_V0_IGNORED):
            _log.warning("%s: layer '%s' (%s) has no use for %s; ignored", name, v0.name, v0.type, field.name)


def _upgrade_v1_transform(net: NetParameter) -> None:
    """Moves the transformations out of V1 data layers' own parameters, in all of them if any has one."""
    kinds = [(layer, V1LayerParameter.LayerType.Name(layer.type)) for layer in net.layers]
    layers = [(layer, getattr(layer, f"{kind.lower()}_param")) for layer, kind in kinds
              if kind in ("DATA", "IMAGE_DATA", "WINDOW_DATA")]
    if not any(param.HasField(field) for _, param in layers for field in _TRANSFORM):
        return
    for layer, param in layers:
        layer.transform_param.SetInParent()
        param.SetInParent()
        for field in _TRANSFORM:
            if param.HasField(field):
                setattr(layer.transform_param, field, getattr(param, field))
                param.ClearField(field)


def current(kind: str) -> str:
    """Today's name of a type of V0 or V1; of any other itself."""
    return _V1_TYPES.get(_V0_TYPES.get(kind, kind).replace("_", ""), kind)


def _upgrade_v1_layer(old: V1LayerParameter, new: LayerParameter) -> None:
    for field, value in old.ListFields():
        if field.name in _V1_SHARED:
            _put(new, field.name, value)
        elif field.name in _V1_PARAM:
            for i, item in enumerate(value):
                while len(new.param) <= i:
                    new.param.add()
                setattr(new.param[i], _V1_PARAM[field.name], item)
    if old.HasField("type"):
        new.type = current(V1LayerParameter.LayerType.Name(old.type))
    unread = getattr(new, UNREAD)
    for text in list(unread):
        found = re.fullmatch(r"""type(?:\s|:|#.*\n)+["']?([^"'\s#]+)["']?""", text)
        if found and not new.HasField("type"):  # one that the schema lacks has its name all the same
            kind: str = found[1]
            new.type = _V1_TYPES.get(kind.upper().replace("_", ""), kind)
        elif (later := _later(text)) is not None:
            new.MergeFrom(later)
        else:
            continue
        unread.remove(text)


def _later(text: str) -> LayerParameter | None:
    """A field of a V1 layer's text that is the current format's alone; None for another's."""
    word = re.split(r"\W", text, maxsplit=1)[0]
    if word in {*LayerParameter.DESCRIPTOR.fields_by_name} - {*V1LayerParameter.DESCRIPTOR.fields_by_name}:
        with suppress(text_format.ParseError):
            return text_format.Parse(text, LayerParameter())
    return None


def _rename_3d(layer: LayerParameter) -> None:
    """Gives C3D's second release, which has messages of its own, those of its first."""
    for kind in ("convolution", "pooling"):
        if layer.HasField(f"{kind}3d_param"):
            getattr(layer, f"{kind}_param").MergeFrom(getattr(layer, f"{kind}3d_param"))
            layer.ClearField(f"{kind}3d_param")


def _upgrade_input(net: NetParameter, name: str) -> None:
    """Turns `input:` with shapes into an Input layer; drops inputs without shapes, as in old weight files."""
    field, each = ("input_shape", 1) if net.input_shape else ("input_dim", 4)
    found, needed = len(getattr(net, field)), each * len(net.input)
    if 0 < found < needed:
        raise Error(f"{name}: {len(net.input)} input(s) need {needed} {field} field(s), found {found}")
    if found:
        layer = LayerParameter(name="input", type="Input", top=net.input)
        if net.input_shape:
            layer.input_param.shape.extend(net.input_shape[:needed])
        else:
            for i in range(0, needed, each):
                layer.input_param.shape.add(dim=net.input_dim[i : i + each])
        net.layer.insert(0, layer)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
