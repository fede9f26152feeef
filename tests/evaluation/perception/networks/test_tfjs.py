"""The interpreter against the same operations written as loops over numbers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation.perception.networks.tfjs import GraphModel
from training.errors import FoundryError

RANDOM = np.random.default_rng(0)


class _Graph:
    """Writes a graph as the converter does: nodes, a list of weights and one binary file."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = [{"name": "image", "op": "Placeholder", "attr": {}}]
        self.weights: list[dict[str, Any]] = []
        self.data = b""

    def const(self, name: str, value: np.ndarray, stored: str = "") -> str:
        entry: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)}
        if stored:
            entry["quantization"] = {"dtype": stored, "original_dtype": "float32"}
        self.weights.append(entry)
        self.data += value.astype(stored or value.dtype).tobytes()
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        return name

    def node(self, name: str, operation: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append({"name": name, "op": operation, "input": inputs, "attr": attributes})
        return name

    def topology(self, *outputs: str) -> dict[str, Any]:
        return {
            "format": "graph-model",
            "signature": {"outputs": {f"{name}:0": {} for name in outputs}},
            "modelTopology": {"node": self.nodes[::-1]},  # not in the order of execution
            "weightsManifest": [{"paths": ["weights.bin"], "weights": self.weights}],
        }

    def run(self, image: np.ndarray, *outputs: str) -> dict[str, np.ndarray]:
        found = GraphModel(self.topology(*outputs), self.data)(torch.from_numpy(image))
        return {name: value.numpy() for name, value in found.items()}


def _word(text: str) -> dict[str, str]:
    return {"s": base64.b64encode(text.encode()).decode()}


def _numbers(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


def _windows(
    image: np.ndarray, size: int, stride: int, padding: str, fill: float
) -> dict[tuple[int, int], np.ndarray]:
    """Windows [size, size, channels] of an image [h, w, channels] by output place, by TensorFlow's rules."""
    height, width, _ = image.shape
    if padding == "SAME":
        pads = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in (height, width)]
        image = np.pad(image, [*((pad // 2, pad - pad // 2) for pad in pads), (0, 0)], constant_values=fill)
    rows = range(0, image.shape[0] - size + 1, stride)
    columns = range(0, image.shape[1] - size + 1, stride)
    return {
        (row // stride, column // stride): image[row : row + size, column : column + size]
        for row in rows
        for column in columns
    }


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [6, 7])
def test_convolution_and_pooling_equal_loops(padding: str, stride: int, side: int) -> None:
    image = RANDOM.normal(size=(1, side, side, 3)).astype(np.float32)
    kernel = RANDOM.normal(size=(3, 3, 3, 2)).astype(np.float32)
    graph = _Graph()
    graph.const("kernel", kernel)
    shared = {
        "padding": _word(padding),
        "data_format": _word("NHWC"),
        "strides": _numbers(1, stride, stride, 1),
    }
    graph.node("conv", "Conv2D", ["image", "kernel"], **shared)
    graph.node("pool", "MaxPool", ["image"], ksize=_numbers(1, 3, 3, 1), **shared)
    found = graph.run(image, "conv", "pool")
    for (row, column), window in _windows(image[0], 3, stride, padding, 0.0).items():
        expected = np.einsum("ijc,ijcd->d", window, kernel)
        np.testing.assert_allclose(found["conv"][0, row, column], expected, rtol=2e-5, atol=2e-6)
    windows = _windows(image[0], 3, stride, padding, -np.inf)
    for (row, column), window in windows.items():
        np.testing.assert_array_equal(found["pool"][0, row, column], window.max(axis=(0, 1)))
    assert len(windows) == found["pool"][0, ..., 0].size


def test_a_chain_of_the_other_operations_equals_numpy() -> None:
    image = RANDOM.normal(size=(1, 4, 4, 2)).astype(np.float32)
    scale = RANDOM.normal(size=2).astype(np.float32)
    graph = _Graph()
    graph.const("bias", scale, stored="float16")
    graph.const("pads", np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32))
    graph.const("fill", np.array(7.0, np.float32))
    graph.const("size", np.array([14, 10], np.int32))
    graph.const("axes", np.array([0, 3, 1, 2], np.int32))
    graph.const("parts", np.array([3, 4], np.int32))
    graph.const("axis", np.array(2, np.int32))
    graph.const("shape", np.array([1, -1], np.int32))
    graph.node("sum", "AddV2", ["image", "bias"])
    graph.node("leaky", "LeakyRelu", ["sum"], alpha={"f": 0.1})
    graph.node("padded", "PadV2", ["leaky", "pads", "fill"])
    graph.node("larger", "ResizeBilinear", ["padded", "size"], half_pixel_centers={"b": True})
    graph.node("turned", "Transpose", ["padded", "axes"])
    graph.node("split", "SplitV", ["turned", "parts", "axis"])
    graph.node("joined", "ConcatV2", ["split:1", "split", "axis"])
    graph.node("soft", "Sigmoid", ["joined"])
    graph.node("flat", "Reshape", ["soft", "shape"])
    found = graph.run(image, "flat", "larger")
    value = image + scale.astype(np.float16).astype(np.float32)
    value = np.where(value > 0, value, 0.1 * value)
    value = np.pad(value, [(0, 0), (1, 2), (0, 1), (0, 0)], constant_values=7.0)
    turned = value.transpose(0, 3, 1, 2)
    joined = np.concatenate([turned[:, :, 3:], turned[:, :, :3]], axis=2)
    np.testing.assert_allclose(found["flat"], 1 / (1 + np.exp(-joined.reshape(1, -1))), rtol=1e-5)
    # Twice as large with half-pixel centres: inside, each pixel is three quarters of the nearest, one of the next.
    rows = 0.75 * value[0, 1:-1] + 0.25 * value[0, :-2]
    inner = 0.75 * rows[:, 1:-1] + 0.25 * rows[:, :-2]
    np.testing.assert_allclose(found["larger"][0, 2:-2:2, 2:-2:2], inner, rtol=1e-5)


def test_empty_sparse_tensors_are_the_default() -> None:
    graph = _Graph()
    graph.const("places", np.zeros((0, 1), np.int32))
    graph.const("shape", np.array([2], np.int32))
    graph.const("values", np.zeros(0, np.int32))
    graph.const("default", np.array(3, np.int32))
    graph.node("dense", "SparseToDense", ["places", "shape", "values", "default"])
    graph.node("sum", "Add", ["image", "dense"])
    assert graph.run(np.zeros(2, np.float32), "sum")["sum"].tolist() == [3.0, 3.0]


def _write(folder: Path, topology: dict[str, Any], data: bytes) -> tuple[Path, Path]:
    (folder / "model.json").write_text(json.dumps(topology))
    (folder / "weights.bin").write_bytes(data)
    return folder / "model.json", folder / "weights.bin"


def test_files_that_are_no_model_are_refused_with_the_reason(tmp_path: Path) -> None:
    graph = _Graph()
    graph.const("bias", np.ones(4, np.float32))
    graph.node("sum", "Add", ["image", "bias"])
    good = graph.topology("sum")
    loaded = GraphModel.load(*_write(tmp_path, good, graph.data))
    assert loaded(torch.zeros(4))["sum"].tolist() == [1.0] * 4
    with pytest.raises(FoundryError, match="15 bytes and ends inside bias"):
        GraphModel.load(*_write(tmp_path, good, graph.data[:-1]))
    with pytest.raises(FoundryError, match="only 'graph-model'"):
        GraphModel.load(*_write(tmp_path, {**good, "format": "layers-model"}, graph.data))
    with pytest.raises(FoundryError, match="are no TFJS model .KeyError"):
        GraphModel.load(*_write(tmp_path, {"format": "graph-model"}, graph.data))
    graph.node("odd", "Cholesky", ["sum"])
    with pytest.raises(FoundryError, match="operations Cholesky are not known"):
        GraphModel.load(*_write(tmp_path, graph.topology("odd"), graph.data))
