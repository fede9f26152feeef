"""Which of the teacher's features a student is taught by, and how they are read off: KOALA's tap points.

Stages are named as in the paper (arXiv 2312.04005, section 3.2): DW-1 and on for the encoder, Mid, UP-1 and on for the
decoder; a transformer is one stage, Blocks. Features are the outputs of whole modules: self-attention ``attn1`` (after its
output projection, before the residual), cross-attention ``attn2``, the feed-forward, residual blocks, or a stage. Only
paired modules are hooked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.distillation.students import Rename, plan_cut
from training.errors import FoundryError
from training.recipes.feature_distillation import FeatureKind, FeatureOptions, Pairing, StudentOptions

BLOCKS = "Blocks"
LAST_UP = "UP-last"
_SUFFIX: Mapping[FeatureKind, re.Pattern[str]] = {
    "SA": re.compile(r"transformer_blocks\.\d+\.(attn1|attn)$"),
    "CA": re.compile(r"transformer_blocks\.\d+\.attn2$"),
    "FFN": re.compile(r"transformer_blocks\.\d+\.ff$"),
    "Res": re.compile(r"\.resnets\.\d+$"),
    "LF": re.compile(
        r"^((down_blocks|up_blocks|transformer_blocks|single_transformer_blocks)\.\d+|mid_block)$"
    ),
}
_LAYER = re.compile(r"^(.*transformer_blocks)\.(\d+)(\..*)?$")


@dataclass(frozen=True)
class FeaturePair:
    """A module of the student and the one of the teacher whose output it is to give."""

    kind: FeatureKind
    stage: str
    student: str
    teacher: str


def stages_of(backbone: Any) -> list[str]:
    """The stages of a backbone, in the order in which they run."""
    if not hasattr(backbone, "down_blocks"):
        return [BLOCKS]
    mid = ["Mid"] if backbone.mid_block is not None else []
    down, up = (len(getattr(backbone, name)) for name in ("down_blocks", "up_blocks"))
    return [*(f"DW-{i + 1}" for i in range(down)), *mid, *(f"UP-{i + 1}" for i in range(up))]


def default_features(backbone: Any) -> tuple[FeatureOptions, ...]:
    """Self-attention everywhere; on a UNet also the outputs of its first and last stage (the paper's best)."""
    attention = FeatureOptions(kind="SA")
    if not hasattr(backbone, "down_blocks"):
        return (attention,)
    return attention, FeatureOptions(kind="LF", stages=("DW-1", LAST_UP))


def feature_pairs(
    student: Any, teacher: Any, kept: StudentOptions, features: Sequence[FeatureOptions] | None = None
) -> list[FeaturePair]:
    """The pairs of some kinds of feature, each once, in the order of the student's modules.

    Raises FoundryError for a stage that the student lacks, and where a kind is found nowhere in the stages named.
    """
    chosen = default_features(student) if features is None else features
    rename = plan_cut(teacher, kept).rename
    pairs: dict[FeaturePair, None] = {}
    for wanted in chosen:
        found = _pairs_of(student, teacher, rename, wanted)
        if not found:
            raise FoundryError(
                f"features: a {type(student).__name__} has no {wanted.kind} in {', '.join(wanted.stages or stages_of(student))}; "
                "name another kind or other stages"
            )
        pairs.update(dict.fromkeys(found))
    return list(pairs)


def _pairs_of(student: Any, teacher: Any, rename: Rename, wanted: FeatureOptions) -> list[FeaturePair]:
    stages = _stages(student, wanted.stages)
    modules = dict(teacher.named_modules())
    pairs = []
    for name, _ in student.named_modules():
        stage = _stage_of(name)
        if stage not in stages or not _SUFFIX[wanted.kind].search(name):
            continue
        source = _paired(name, student, modules, rename, wanted.pairing)
        if source not in modules:
            raise FoundryError(f"features: the teacher has no '{source}' to pair the student's '{name}' with")
        pairs.append(FeaturePair(wanted.kind, stage, name, source))
    return pairs


def _stages(student: Any, wanted: Sequence[str] | None) -> list[str]:
    own = stages_of(student)
    named = [own[-1] if name == LAST_UP and own[-1] != BLOCKS else name for name in wanted or own]
    unknown = [name for name in named if name not in own]
    if unknown:
        raise FoundryError(f"features: stage '{unknown[0]}' is not one of the student's: {', '.join(own)}")
    return named


def _stage_of(name: str) -> str:
    part, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if part in ("down_blocks", "up_blocks") and number:
        return f"{'DW' if part == 'down_blocks' else 'UP'}-{int(number) + 1}"
    if part == "mid_block":
        return "Mid"
    return BLOCKS if part in ("transformer_blocks", "single_transformer_blocks") else ""


def _paired(name: str, student: Any, teacher: Mapping[str, Any], rename: Rename, pairing: Pairing) -> str:
    """The teacher's module: by name, and within a stack of transformer layers by the pairing."""
    source = rename(name)
    if pairing == "bottom":
        return source
    own, theirs = _LAYER.match(name), _LAYER.match(source)
    if own is None or theirs is None:
        return source
    layers = paired_layers(pairing, len(student.get_submodule(own[1])), len(teacher[theirs[1]]))
    return f"{theirs[1]}.{layers[int(own[2])]}{theirs[3] or ''}"


def paired_layers(pairing: Pairing, kept: int, whole: int) -> list[int]:
    """Which of ``whole`` teacher layers the ``kept`` student layers are paired with, counted from 0.

    Of 10 layers and a depth of 6: bottom 1 to 6; interleave 1, 3, 5, 7, 9, 10 (the paper's); up 5 to 10.
    """
    if pairing == "bottom":
        return list(range(kept))
    if pairing == "up":
        return list(range(whole - kept, whole))
    every_second = list(range(0, whole, 2))[:kept]
    rest = [layer for layer in reversed(range(whole)) if layer not in every_second]
    return sorted([*every_second, *rest[: kept - len(every_second)]])


class FeatureTaps:
    """Outputs of named modules while :meth:`recording`; nothing is kept before or after (nor in a recomputation)."""

    def __init__(self, module: nn.Module, names: Sequence[str], *, host: bool = False) -> None:
        self._host = host
        self._open: dict[str, Tensor] | None = None
        for name in dict.fromkeys(names):
            module.get_submodule(name).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if self._open is not None:
                first = output[0] if isinstance(output, tuple) else output
                self._open[name] = to_host(first) if self._host else first

        return keep

    @contextmanager
    def recording(self) -> Iterator[dict[str, Tensor]]:
        """Inside, a forward pass leaves its features in the dictionary."""
        found: dict[str, Tensor] = {}
        self._open = found
        try:
            yield found
        finally:
            self._open = None


def to_host(feature: Tensor) -> Tensor:
    """A feature in the host's memory: pinned where it comes from a GPU, so that it returns while the GPU works."""
    if feature.device.type != "cuda":
        return feature
    held = torch.empty(feature.shape, dtype=feature.dtype, pin_memory=True)
    held.copy_(feature, non_blocking=True)
    return held
