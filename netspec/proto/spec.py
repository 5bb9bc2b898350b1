"""NetSpec: nets written in Python, as in pycaffe, with every keyword checked where it is written.

    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.conv = layers.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="xavier"))
    n.relu = layers.ReLU(n.conv, in_place=True)
    net = n.to_proto()
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import Message

from ..base.errors import Error, closest
from . import caffe_pb2
from .caffe_pb2 import LayerParameter, NetParameter
from .types import FIELDS, MESSAGES, TYPES, keywords, own_fields

_KINDS: dict[int, str] = {number: name.removeprefix("TYPE_").lower()
                          for name, number in FieldDescriptorProto.Type.items()}


class _Absent(Error, AttributeError, KeyError):
    """A name that is not there; hasattr() and pycaffe's `except KeyError` go on working."""

    __str__ = Error.__str__


class _Mistyped(Error, TypeError):
    """An input that is no Top: pycaffe's TypeError, word for word; tracebacks show file and line below it."""


class Top:
    """One output of a layer: top `n` of the Function `fn`."""

    def __init__(self, fn: "Function", n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> NetParameter:
        """The layers that this top needs, with automatic names."""
        return to_proto(self)


class Function:
    """A layer: its type, the Tops it reads, and its keywords.

    Raises Error, naming the caller's file and line, if an input is not a Top or a keyword fits neither the
    parameter message of the type nor LayerParameter, down into nested dicts.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]):
        self.type_name = type_name
        self.inputs = inputs
        self.params = params
        self.ntop = params.pop("ntop", 1)
        self.in_place = params.pop("in_place", False)
        self._place = _caller()
        for i, top in enumerate(inputs):
            if not isinstance(top, Top):
                problem = _Mistyped(f"{type_name} input {i} is not a Top (type is {type(top)})")
                problem.__notes__ = [self._place]
                raise problem
        if not isinstance(self.ntop, int) or self.ntop < 0:
            raise self._error(f"ntop must be a number of tops, not {self.ntop!r}")
        if self.in_place and self.ntop > len(inputs):
            raise self._error(f"in_place needs an input for each of {self.ntop} top(s), found {len(inputs)}")
        self.tops = tuple(Top(self, n) for n in range(self.ntop))
        self.layer("", [], [])

    def layer(self, name: str, bottom: list[str], top: list[str]) -> LayerParameter:
        """The LayerParameter under the given names."""
        layer = LayerParameter(name=name, type=self.type_name, bottom=bottom, top=top)
        own = keywords(self.type_name)
        for key, value in self.params.items():
            if key in own:
                _assign(getattr(layer, own[key]), key, value, self._error)
            elif key in FIELDS:
                _assign(layer, key, value, self._error)
            else:
                fields, hint = own_fields(self.type_name), closest(key, ["ntop", "in_place", *FIELDS, *own])
                if not fields:
                    hint = hint or closest(self.type_name, [name for name in TYPES if name != self.type_name])
                raise self._error(f"no field '{key}' in {' or '.join([*fields, 'LayerParameter'])}{hint}")
        return layer

    def _error(self, text: str) -> Error:
        return Error(f"{self._place}: {self.type_name}: {text}")


class NetSpec:
    """A net under construction: what is assigned to its attributes (or items) becomes its named tops."""

    tops: dict[str, Top | Function]

    def __init__(self) -> None:
        super().__setattr__("tops", {})
        super().__setattr__("_wrong", {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._wrong.pop(name, None)
        if isinstance(value, Top | Function):
            self.tops[name] = value
            return
        wrong = f"{_caller()}: '{name}' must be a Top (what a layer returns), not {_describe(value)}"
        if not isinstance(value, tuple):
            raise Error(wrong)
        self._wrong[name] = wrong  # tops may still take its place, as scripts have it that Caffe lets through

    def __getattr__(self, name: str) -> Any:  # a Top, or the Function that was assigned
        tops = self.__dict__.get("tops", {})
        if name not in tops:
            raise _Absent(f"{_caller()}: the net has no top '{name}'{closest(name, tops)}")
        return tops[name]

    __setitem__ = __setattr__

    def __getitem__(self, name: str) -> Any:
        return self.__getattr__(name)

    def __contains__(self, name: str) -> bool:
        return name in self.tops

    def __delitem__(self, name: str) -> None:
        self[name]  # which says if there is none
        del self.tops[name]

    def keys(self) -> list[str]:
        """The names of the tops, as in SSD's Caffe, in the order of assignment."""
        return list(self.tops)

    def vals(self) -> list[Top | Function]:
        """What they name, as in SSD's Caffe."""
        return list(self.tops.values())

    def update(self, name: str, params: dict[str, Any]) -> None:
        """Give the layer of a top further keywords, or other values, as in SSD's Caffe."""
        function = self[name] if isinstance(self[name], Function) else self[name].fn
        function.params.update(params)
        function.layer("", [], [])

    def to_proto(self) -> NetParameter:
        """The net: each top's layer after the layers it needs, in the order of assignment."""
        for wrong in self._wrong.values():
            raise Error(wrong)
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """`layers.TYPE(*bottoms, **keywords)`, any TYPE: a Top, a tuple of Tops (ntop=2), a Function (ntop=0)."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*inputs: Top, **params: Any) -> Top | Function | tuple[Top, ...]:
            function = Function(name, inputs, params)
            if function.ntop == 0:
                return function
            return function.tops[0] if function.ntop == 1 else function.tops

        return layer


class Parameters:
    """`params.Pooling.MAX`: the enum values of the layers' parameter messages."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Enums(name)


class _Enums:
    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, value: str) -> int:
        if value.startswith("__"):
            raise AttributeError(value)
        message = getattr(caffe_pb2, f"{self._name}Parameter", None)
        if message is None:
            raise _Absent(f"{_caller()}: no parameters '{self._name}'{closest(self._name, MESSAGES)}")
        known = message.DESCRIPTOR.enum_values_by_name
        if value not in known:
            raise _Absent(f"{_caller()}: '{self._name}' has no value '{value}'{closest(value, known)}")
        return known[value].number


if TYPE_CHECKING:
    from .keywords import layers, params  # what `stub` makes of the schema
else:
    layers = Layers()
    params = Parameters()


def to_proto(*tops: Top | Function) -> NetParameter:
    """A NetParameter of the layers that the tops need, all names automatic: type and running number."""
    return _net(tops, {})


def _net(tops: Iterable[Top | Function], names: dict[Top | Function, str]) -> NetParameter:
    """Layers in order of need, depth first, without recursion: a net of 1000 layers is nothing special."""
    done: dict[Function, LayerParameter] = {}
    numbers: Counter[str] = Counter()

    def name(thing: Top | Function, type_name: str) -> str:
        if thing not in names:
            numbers[type_name] += 1
            names[thing] = f"{type_name}{numbers[type_name]}"
        return names[thing]

    for top in tops:
        stack = [top.fn if isinstance(top, Top) else top]
        while stack:
            function = stack[-1]
            needed = next((t.fn for t in function.inputs if t.fn not in done), None)
            if needed:
                stack.append(needed)
                continue
            stack.pop()
            if function in done:
                continue
            bottom = [done[t.fn].top[t.n] for t in function.inputs]
            own = bottom if function.in_place else [name(t, function.type_name) for t in function.tops]
            title = name(function.tops[0] if function.ntop else function, function.type_name)
            done[function] = function.layer(title, bottom, own)
    return NetParameter(layer=done.values())


def _assign(message: Message, key: str, value: Any, error: Callable[[str], Error]) -> None:
    """Sets a field from Python: dicts are messages, lists and tuples repeated fields, strings enums too.

    A repeated field also takes one value. `error` makes the Error to raise from a sentence.
    """
    known = FIELDS if isinstance(message, LayerParameter) else message.DESCRIPTOR.fields_by_name
    field = known.get(str(key))
    if field is None:
        raise error(f"no field '{key}' in {message.DESCRIPTOR.name}{closest(str(key), known)}")
    if hasattr(value, "tolist"):  # NumPy's
        value = value.tolist()
    current = getattr(message, key)
    repeated = hasattr(current, "extend")
    for item in value if repeated and isinstance(value, list | tuple | range) else [value]:
        if not field.message_type:
            _scalar(field, item, current.append if repeated else partial(setattr, message, key), error)
            continue
        part = current.add() if repeated else current
        if isinstance(item, type(part)):
            part.MergeFrom(item)
        elif isinstance(item, dict):
            for name, inner in item.items():
                _assign(part, name, inner, error)
        else:
            kind = field.message_type.name
            raise error(f"{key} must be dict(...) of {kind}'s fields, not {_describe(item)}")


def _scalar(field: Any, value: Any, put: Callable[[Any], None], error: Callable[[str], Error]) -> None:
    kind = _KINDS[field.type]
    if field.enum_type:
        known = field.enum_type.values_by_name
        kind = f"one of {', '.join(known)}"
        if isinstance(value, str) and value in known:
            value = known[value].number
    elif "int" in kind and isinstance(value, float) and value.is_integer():
        value = int(value)  # 64 / 4 in a script that was Python 2's
    try:
        if value is None:
            raise TypeError
        put(value)
    except (TypeError, ValueError, OverflowError):
        raise error(f"{field.name} must be {kind}, not {_describe(value)}") from None


def _describe(value: Any) -> str:
    if isinstance(value, str | int | float | list | tuple | dict) and len(repr(value)) < 60:
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, tuple):
        return f"{len(value)} values"
    return f"a {type(value).__name__}" if value is not None else "None"


def _caller() -> str:
    """FILE:LINE of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
