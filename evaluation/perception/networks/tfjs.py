"""A small interpreter of TensorFlow.js graph models in torch: enough operations for convolutional detectors.

A model is a JSON file (the graph and a list of weights) and one binary file of weights, float32, int32, bool or float16
that stands for float32. Nothing of TensorFlow is needed. Graphs are run as they stand: shapes, batch size included, are
the graph's own, and an operation that is not here is refused when the model is loaded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from training.errors import FoundryError

_BYTES_AS = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1", "float16": "<f2"}
Attributes = Mapping[str, Any]
Operation = Callable[[Attributes, Sequence[Tensor]], Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Node:
    """One operation: ``inputs`` are (node, which of its outputs)."""

    name: str
    operation: str
    inputs: tuple[tuple[str, int], ...]
    attributes: Attributes


class GraphModel:
    """A loaded graph. Call it with the input tensor; it answers with the named outputs.

    Args:
        topology: parsed ``model.json``.
        weights: content of the binary file that it names.

    Raises:
        FoundryError: not a graph model, weights that do not fit, or an operation that is not known.
    """

    def __init__(self, topology: Mapping[str, Any], weights: bytes) -> None:
        if topology.get("format") != "graph-model":
            raise FoundryError(
                f"TFJS model: format is {topology.get('format')!r}; only 'graph-model' can be run"
            )
        self._weights = _read_weights(topology["weightsManifest"], weights)
        nodes = {node.name: node for node in map(_node, topology["modelTopology"]["node"])}
        unknown = sorted(
            {node.operation for node in nodes.values()} - set(_OPERATIONS) - {"Const", "Placeholder"}
        )
        if unknown:
            raise FoundryError(
                f"TFJS model: operations {', '.join(unknown)} are not known to the interpreter"
            )
        inputs = [node.name for node in nodes.values() if node.operation == "Placeholder"]
        if len(inputs) != 1:
            raise FoundryError(f"TFJS model: {len(inputs)} inputs {inputs}; exactly one is supported")
        self.input_name = inputs[0]
        self.outputs = tuple(_reference(name)[0] for name in topology["signature"]["outputs"])
        self._order = _in_order(nodes, self.outputs)
        missing = [
            node.name for node in self._order if node.operation == "Const" and node.name not in self._weights
        ]
        if missing:
            raise FoundryError(f"TFJS model: no weights for {', '.join(missing[:3])}; fetch the files again")

    @staticmethod
    def load(model_json: Path, weights: Path) -> GraphModel:
        """The model of two files. Raises FoundryError where one cannot be read."""
        try:
            return GraphModel(json.loads(model_json.read_text(encoding="utf-8")), weights.read_bytes())
        except (OSError, ValueError, KeyError) as error:
            raise FoundryError(
                f"{model_json} and {weights.name} are no TFJS model ({type(error).__name__}: {error}); fetch them again"
            ) from error

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, ...]) -> dict[str, Tensor]:
        """Outputs by name. Values that nothing needs any more are let go on the way."""
        values: dict[str, tuple[Tensor, ...]] = {self.input_name: (image,)}
        uses = self._uses()
        for node in self._order:
            if node.operation == "Placeholder":
                continue
            if node.operation == "Const":
                values[node.name] = (self._weights[node.name],)
                continue
            given = [values[name][index] for name, index in node.inputs]
            answer = _OPERATIONS[node.operation](node.attributes, given)
            values[node.name] = answer if isinstance(answer, tuple) else (answer,)
            for name, _ in node.inputs:
                uses[name] -= 1
                if not uses[name]:
                    del values[name]
        return {name: values[name][0] for name in self.outputs}

    def _uses(self) -> dict[str, int]:
        uses = dict.fromkeys(self.outputs, 1)
        for node in self._order:
            for name, _ in node.inputs:
                uses[name] = uses.get(name, 0) + 1
        return uses


def _node(raw: Mapping[str, Any]) -> Node:
    inputs = tuple(_reference(name) for name in raw.get("input", ()) if not name.startswith("^"))
    return Node(raw["name"], raw["op"], inputs, raw.get("attr", {}))


def _reference(name: str) -> tuple[str, int]:
    """ "split:1" is the second output of "split"."""
    node, _, index = name.partition(":")
    return node, int(index or 0)


def _in_order(nodes: Mapping[str, Node], outputs: Sequence[str]) -> list[Node]:
    """What the outputs need, inputs first; the file's own order need not be one."""
    order: list[Node] = []
    done: set[str] = set()
    waiting = [(name, False) for name in reversed(outputs)]
    while waiting:
        name, inputs_done = waiting.pop()
        if name in done:
            continue
        if inputs_done:
            done.add(name)
            order.append(nodes[name])
            continue
        waiting.append((name, True))
        waiting += [(source, False) for source, _ in nodes[name].inputs if source not in done]
    return order


def _read_weights(manifest: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, Tensor]:
    """Tensors by name, in the order in which the file holds them."""
    answer, place = {}, 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        if stored not in _BYTES_AS or ("quantization" in entry and stored != "float16"):
            raise FoundryError(
                f"TFJS model: weights {entry['name']} are {stored}; known are {', '.join(_BYTES_AS)}"
            )
        count = int(np.prod(entry["shape"], dtype=np.int64))
        size = count * np.dtype(_BYTES_AS[stored]).itemsize
        if place + size > len(data):
            raise FoundryError(
                f"TFJS model: the weights file has {len(data)} bytes and ends inside {entry['name']}; fetch it again"
            )
        array = np.frombuffer(data, _BYTES_AS[stored], count, place).reshape(entry["shape"])
        place += size
        answer[entry["name"]] = torch.from_numpy(
            array.astype(np.float32 if stored == "float16" else array.dtype.type)
        )
    return answer


def _text(attributes: Attributes, name: str, default: str) -> str:
    return base64.b64decode(attributes[name]["s"]).decode() if name in attributes else default


def _whole_numbers(attributes: Attributes, name: str, default: Sequence[int]) -> list[int]:
    return [int(value) for value in attributes.get(name, {}).get("list", {}).get("i", default)]


def _flag(attributes: Attributes, name: str) -> bool:
    return bool(attributes.get(name, {}).get("b", False))


def _padded_as(
    attributes: Attributes, image_nchw: Tensor, size: Sequence[int], strides: Sequence[int], fill: float
) -> Tensor:
    """The image, padded where the operation says SAME; NHWC alone is known."""
    if _text(attributes, "data_format", "NHWC") != "NHWC":
        raise FoundryError("TFJS model: convolutions in another layout than NHWC are not supported")
    padding = _text(attributes, "padding", "VALID")
    if padding == "VALID":
        return image_nchw
    if padding != "SAME":
        raise FoundryError(f"TFJS model: padding is {padding!r}; known are VALID and SAME")
    pads: list[int] = []
    for length, window, stride in zip(image_nchw.shape[:1:-1], size[::-1], strides[::-1], strict=True):
        total = max((-(-length // stride) - 1) * stride + window - length, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(image_nchw, pads, value=fill)


def _convolve(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    image, kernel_hwio = given
    strides = _whole_numbers(attributes, "strides", [1, 1, 1, 1])[1:3]
    dilations = _whole_numbers(attributes, "dilations", [1, 1, 1, 1])[1:3]
    reach = [(side - 1) * step + 1 for side, step in zip(kernel_hwio.shape[:2], dilations, strict=True)]
    padded = _padded_as(attributes, image.permute(0, 3, 1, 2), reach, strides, 0.0)
    kernel = kernel_hwio.permute(3, 2, 0, 1)
    groups = padded.shape[1] // kernel.shape[1]
    return functional.conv2d(padded, kernel, None, strides, 0, dilations, groups).permute(0, 2, 3, 1)


def _max_pool(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    size = _whole_numbers(attributes, "ksize", [])[1:3]
    strides = _whole_numbers(attributes, "strides", [])[1:3]
    padded = _padded_as(attributes, given[0].permute(0, 3, 1, 2), size, strides, -torch.inf)
    return functional.max_pool2d(padded, size, strides).permute(0, 2, 3, 1)


def _pad(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    fill = float(given[2]) if len(given) > 2 else 0.0
    pads = [int(value) for pair in reversed(given[1].tolist()) for value in pair]
    return functional.pad(given[0], pads, value=fill)


def _resize_bilinear(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    if _flag(attributes, "align_corners") or not _flag(attributes, "half_pixel_centers"):
        raise FoundryError(
            "TFJS model: ResizeBilinear is known with half_pixel_centers and no align_corners alone"
        )
    size = [int(value) for value in given[1].tolist()]
    resized = functional.interpolate(given[0].permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    return resized.permute(0, 2, 3, 1)


def _split(attributes: Attributes, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.split(given[0], [int(value) for value in given[1].tolist()], int(given[2])))


def _concatenate(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(given[:-1]), int(given[-1]))


def _sparse_to_dense(attributes: Attributes, given: Sequence[Tensor]) -> Tensor:
    places, shape, values, default = given
    dense = torch.full([int(side) for side in shape.tolist()], default.item(), dtype=default.dtype)
    if places.numel():
        dense[tuple(places.long().reshape(-1, dense.ndim).T)] = values
    return dense


_OPERATIONS: Mapping[str, Operation] = {
    "Add": lambda attributes, given: given[0] + given[1],
    "AddV2": lambda attributes, given: given[0] + given[1],
    "ConcatV2": _concatenate,
    "Conv2D": _convolve,
    "Identity": lambda attributes, given: given[0],
    "LeakyRelu": lambda attributes, given: functional.leaky_relu(
        given[0], float(attributes.get("alpha", {}).get("f", 0.2))
    ),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "PadV2": _pad,
    "Reshape": lambda attributes, given: given[0].reshape([int(side) for side in given[1].tolist()]),
    "ResizeBilinear": _resize_bilinear,
    "Sigmoid": lambda attributes, given: given[0].sigmoid(),
    "SparseToDense": _sparse_to_dense,
    "SplitV": _split,
    "Transpose": lambda attributes, given: given[0].permute([int(axis) for axis in given[1].tolist()]),
}
