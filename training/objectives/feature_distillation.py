"""Feature distillation: a smaller student learns from the data, its teacher's output and its teacher's features.

KOALA (arXiv 2312.04005, section 3.2): L = w_task L_task + w_out L_outKD + w_feat L_featKD, with

    L_task = E || y - f_S(z_t, t, c) ||^2,   L_outKD = E || f_T(z_t, t, c) - f_S(z_t, t, c) ||^2,

y whatever the teacher predicts (epsilon, v, flow or clean), and L_featKD the sum over pairs of features of their mean
squared difference in float32 (the paper prints a norm over the sum; its code sums mean squared errors, as here).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.diffusion.few_step_schedulers import is_few_step
from training.distillation import FeaturePair, FeatureTaps, build_student, feature_pairs
from training.feed.latents import LatentBatch
from training.model_folders.parents import check_backbone, load_parent
from training.objectives.noised import NoisedObjective, options_under, place
from training.randomness import Draw
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution
from training.recipes.feature_distillation import FeatureDistillationOptions
from training.recipes.specification import TrainingSpecification


class FeatureDistillationObjective(NoisedObjective):
    """Owns the student (``module``), the frozen teacher, the hooks on both and the training shards."""

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        self.distillation = options = spec.recipe.options_of(FeatureDistillationOptions)
        super().__init__(spec, execution, device)
        self.teacher.to(device)
        place(self.teacher, execution, device)
        self.pairs = feature_pairs(self.module, self.teacher, options.student, options.features)
        if options.feature_weight == 0:
            self.pairs = []
        self.student_taps = FeatureTaps(self.module, [pair.student for pair in self.pairs])
        self.teacher_taps = FeatureTaps(
            self.teacher, [pair.teacher for pair in self.pairs], host=options.feature_memory == "host"
        )

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """The student with its teacher's weights; it predicts what the teacher does, under the same noise."""
        parent = load_parent(spec, execution, own_backbone=False)
        self.teacher = parent.backbone.requires_grad_(False).eval()
        self.few_step = is_few_step(parent.folder)
        own = self.distillation
        options = options_under(
            parent.noising, caption_dropout=own.caption_dropout, time_sampling=own.time_sampling
        )
        student = build_student(self.teacher, own.student).backbone
        if spec.recipe.backbone is not None:  # what is cut is what a paper says
            check_backbone(spec.recipe, student, of="its student")
        return options, student.train()

    def loss(self, batch: LatentBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The weighted sum of the three losses; each alone, and the features' by kind and stage, as scalars."""
        noised = self.noised(batch, draw)
        asked = (noised.noisy, noised.level, noised.condition)
        with torch.no_grad(), self.teacher_taps.recording() as taught:
            wanted = self.predict(self.teacher, *asked)
        with self.student_taps.recording() as own:
            output = self.predict(self.module, *asked)
        options = self.distillation
        task = (output - self.data_target(noised)).square().mean()
        imitation = (output - wanted).square().mean()
        by_group = feature_losses(self.pairs, own, taught)
        feature = torch.stack(list(by_group.values())).sum() if by_group else output.new_zeros(())
        loss = (
            options.task_weight * task + options.output_weight * imitation + options.feature_weight * feature
        )
        scalars: dict[str, Tensor | float] = {
            "loss_task": task.detach(),
            "loss_output": imitation.detach(),
            "loss_feature": feature.detach(),
            **{f"loss_feature_{group}": value.detach() for group, value in by_group.items()},
        }
        return loss, {**scalars, **self.caption_counts(batch.captions)}


def feature_losses(
    pairs: list[FeaturePair], student: dict[str, Tensor], teacher: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Sums of the pairs' mean squared differences in float32, by kind and stage such as ``SA_UP-1``."""
    sums: dict[str, Tensor] = {}
    for pair in pairs:
        own, taught = student[pair.student], teacher[pair.teacher]
        taught = taught.to(own.device, non_blocking=True).float()
        error = (own.float() - taught).square().mean()
        group = f"{pair.kind}_{pair.stage}"
        sums[group] = sums[group] + error if group in sums else error
    return sums
