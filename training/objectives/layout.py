"""A layout branch learns beside a frozen base to put things where boxes say (CreatiLayout, section 3.2 and 4)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from training.backbones import bare
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.feed.latents import LatentBatch
from training.hardware import to_device
from training.layout.box_aligned import Grid, inside_boxes
from training.layout.folders import branch_parameters, freeze_base, grow_branch, save_branch
from training.layout.shards import LayoutShards
from training.model_folders.parents import load_backbone, load_parent
from training.objectives.noised import NoisedLatents, NoisedObjective, options_under
from training.randomness import Draw
from training.recipes.diffusion import DiffusionOptions
from training.recipes.execution import Execution, input_folder
from training.recipes.layout import LayoutOptions, LayoutTrainingOptions
from training.recipes.specification import Recipe, TrainingSpecification

INPUT, BRANCH_FOLDER = "layout", "layout_branch"


class LayoutObjective(NoisedObjective):
    """Owns the base with its branch and the layouts of the data."""

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        self.layout = spec.recipe.options_of(LayoutTrainingOptions)
        self.layouts = LayoutShards.open(input_folder(execution, INPUT), spec.inputs["dataset"])
        if not self.layouts.description.num_entities:
            raise FoundryError(
                f"{self.layouts.folder}: holds no entity, so nothing can be learned of layouts; annotate entities, or lower "
                "the thresholds of entity_annotations"
            )
        super().__init__(spec, execution, device)
        self._effect: Tensor | float = 0.0
        self._compared_at: int | None = None

    def start(self, spec: TrainingSpecification, execution: Execution) -> tuple[DiffusionOptions, Any]:
        """The parent's weights, frozen, and a new branch. Raises FoundryError as :func:`load_parent` and :func:`grow_branch` do."""
        parent = load_parent(spec, execution)
        return self.grown(parent.backbone, parent.noising, spec.recipe)

    def grown(self, base: Any, noising: Noising, recipe: Recipe) -> tuple[DiffusionOptions, Any]:
        """Options under a base's noise process, and the base, frozen, with a new branch."""
        own, about = self.layout, self.layouts.description
        branch = LayoutOptions(
            **own.branch.model_dump(),
            phrase_dim=about.phrase_dim,
            tokens_per_entity=about.tokens_per_entity,
        )
        model = grow_branch(base, branch, recipe.seed)
        freeze_base(model, "bf16" if recipe.base_format == "bf16" else "fp32")
        options = options_under(
            noising,
            caption_dropout=own.text_dropout + own.both_dropout,
            time_sampling="uniform" if own.time_sampling == "power" else own.time_sampling,
            logit_mean=own.logit_mean,
            logit_std=own.logit_std,
            velocity_floor=own.velocity_floor,
        )
        return options, model

    def draw_levels(self, draw: Draw) -> Float[Tensor, " b"]:
        """Noise levels; ``power``: density a t^(a - 1), by the inverse of its distribution, t = u^(1 / a)."""
        if self.layout.time_sampling != "power":
            return super().draw_levels(draw)
        level = torch.from_numpy(draw.uniform("noise_level")) ** (1 / self.layout.power)
        return to_device(level.float(), self.device)

    def load(self, draw: Draw) -> LatentBatch:
        """Latents, captions and layouts, some left out: of one draw the first share loses its caption, the next caption and
        layout, the next its layout."""
        batch, own = super().load(draw), self.layout
        placed = self.layouts.placed(self.rows[draw.rows], own.branch.max_boxes)
        chance = draw.uniform("caption_dropout")  # captions are dropped where it is below text + both
        without = own.text_dropout + own.both_dropout + own.layout_dropout
        dropped = torch.from_numpy((chance >= own.text_dropout) & (chance < without))
        layout = placed.left_out(dropped).each(lambda rows: to_device(rows, self.device))
        return replace(batch, condition=replace(batch.condition, layout=layout))

    def loss(self, batch: LatentBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Mean squared error, more of it where boxes are; how large the branch has become, what it changes, captions shown."""
        noised = self.noised(batch, draw)
        output = self.predict(self.module, noised.noisy, noised.level, noised.condition)
        squared = (output - self.data_target(noised)).square()
        weights = self.weights_of(noised.level)
        if weights is not None:
            squared = squared * weights[:, None, None, None]
        regions = self._regions(batch.condition, squared)
        self._compare(noised, output, draw)
        scalars = {
            "loss_inside_boxes": mean_inside(squared.detach(), regions > 1),
            "branch_output_rms": output_size(self.module),
            "layout_effect": self._effect,
            **self.caption_counts(batch.captions),
        }
        return (squared * regions).mean() / regions.mean(), scalars

    def prompts(self, count: int) -> Condition:
        """The first alt-texts of the data with their layouts, and the empty text without a layout as their null."""
        prompts = super().prompts(count)
        layout = self.layouts.placed(self.rows[:count], self.layout.branch.max_boxes)
        layout = layout.each(lambda rows: to_device(rows, self.device))
        none = layout.left_out().each(lambda rows: rows[:1])
        null = None if prompts.null is None else replace(prompts.null, layout=none)
        return replace(prompts, layout=layout, null=null)

    def export(self, folder: Path) -> None:
        """Write base and branch as one pipeline folder, and the branch apart beside them."""
        super().export(folder)
        save_branch(self.module, folder / BRANCH_FOLDER, self.spec.inputs["parent"])

    def write_samples(self, path: Path, execution: Execution) -> None:
        """See :meth:`NoisedObjective.write_samples`; a base in bf16 computes in it here too."""
        in_bf16 = self.spec.recipe.base_format == "bf16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=in_bf16):
            super().write_samples(path, execution)

    def _whole(self) -> Any:
        """The model to export; where the base trained in bf16 its parent is read again, so that it costs the result nothing."""
        if self.spec.recipe.base_format == "fp32" or self.parent is None:
            return super()._whole()
        inner: Any = bare(self.module)
        whole = grow_branch(load_backbone(self.parent), inner.layout_options)
        whole.load_state_dict(dict(branch_parameters(self.module)), strict=False)
        return whole.eval()

    def _regions(self, condition: Condition, like: Tensor) -> Float[Tensor, "b 1 h w"]:
        """What every place of a latent weighs: ``region_weight`` in boxes, 1 outside."""
        height, width = like.shape[-2:]
        layout = condition.layout
        if layout is None:
            return like.new_ones(len(like), 1, height, width)
        grid = Grid.of_sides(height, width, layout.boxes_xyxy_norm)
        inside = inside_boxes(layout.boxes_xyxy_norm, layout.there, grid).any(dim=2)
        return 1 + (self.layout.region_weight - 1) * inside.reshape(-1, 1, height, width).to(like.dtype)

    @torch.no_grad()
    def _compare(self, noised: NoisedLatents, output: Tensor, draw: Draw) -> None:
        """How far the answer moves when the layout is left out, over the answer's size; kept until the next comparison."""
        every, layout = self.layout.compare_every_images, noised.condition.layout
        turn = draw.first_image // every
        if turn == self._compared_at or layout is None:
            return
        self._compared_at = turn
        without = replace(noised.condition, layout=layout.left_out())
        other = self.predict(self.module, noised.noisy, noised.level, without)
        self._effect = (output - other).square().mean().sqrt() / output.square().mean().sqrt()


def mean_inside(squared: Float[Tensor, "b c h w"], inside: Bool[Tensor, "b 1 h w"]) -> Tensor:
    """Mean over the places inside boxes; 0 where there are none."""
    return (squared * inside).sum() / (inside.sum() * squared.shape[1]).clamp(min=1)


def output_size(model: nn.Module) -> Tensor:
    """Root mean square of what was initialised with zeros, through which all that a branch says must go."""
    inner: Any = bare(model)
    silent = [
        parameter
        for name, parameter in inner.named_parameters()
        if parameter.requires_grad and name.endswith(SILENT)
    ]
    if not silent:  # joint attention speaks from the start
        return torch.zeros(())
    return torch.stack([parameter.detach().float().square().mean() for parameter in silent]).mean().sqrt()


SILENT = ("layout.output.weight", "layout.output.up.weight", "alpha_attn", "layout_aligned.output.weight")
