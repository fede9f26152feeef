"""Image-text contrastive learning (InfoNCE) of a small open_clip model: the judge of what others draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from training.model_folders.contrastive import (
    WordVocabulary,
    build_clip,
    embed_pixels,
    model_config,
    save_contrastive,
    split_words,
)
from training.randomness import Draw
from training.recipes.contrastive import ContrastiveOptions
from training.recipes.execution import Execution, input_folder
from training.recipes.specification import TrainingSpecification
from training.shards import ImageShards

MAX_LOG_SCALE = math.log(100)  # Radford et al. 2021, section 2.5


@dataclass(frozen=True)
class ContrastiveBatch:
    """Pictures in [-1, 1] and the tokens of one caption each."""

    images: Float[Tensor, "b 3 h w"]
    tokens: Int64[Tensor, "b tokens"]


class ContrastiveObjective:
    """Owns the CLIP model, its vocabulary and a folder of pictures with captions."""

    def __init__(self, spec: TrainingSpecification, execution: Execution, device: str) -> None:
        self.recipe, self.device = spec.recipe, device
        self.options = spec.recipe.options_of(ContrastiveOptions)
        self.shards = ImageShards.open(input_folder(execution, "dataset"))
        self.rows = self.shards.select(spec.recipe.dataset.splits, spec.recipe.dataset.max_samples)
        self.num_samples = len(self.rows)
        self.caption_keys = self.shards.sample_keys(self.rows)
        captions = self.shards.captions()
        self.captions = [captions[row] for row in self.rows]
        self.num_captions = np.array([len(texts) for texts in self.captions])
        self.vocabulary = WordVocabulary.of(text for texts in self.captions for text in texts)
        self.config = model_config(self.options, self.shards.images.shape[1], self.vocabulary.size)
        self.module = build_clip(self.config, spec.recipe.seed).to(device)

    def load(self, draw: Draw) -> ContrastiveBatch:
        """Pictures, shifted and mirrored where asked, and one caption each."""
        mix = self.recipe.dataset.captions
        counts = self.num_captions[draw.rows]
        picked = draw.captions(
            self.caption_keys[draw.rows], counts, mix.original_probability, mix.max_generated
        )
        texts = [self.captions[row][index] for row, index in zip(draw.rows, picked, strict=True)]
        images = self._augment(self.shards.gather_images(self.rows[draw.rows]), texts, draw)
        tokens = self.vocabulary.encode(texts, self.options.max_tokens)
        return ContrastiveBatch(
            torch.from_numpy(images).to(self.device), torch.from_numpy(tokens).to(self.device)
        )

    def loss(self, batch: ContrastiveBatch, draw: Draw) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Symmetric cross entropy over the batch; equal captions count as right answers, not as negatives."""
        images = embed_pixels(self.module, batch.images)
        texts = self.module.encode_text(batch.tokens, normalize=True)
        logits = self.module.logit_scale.clamp(0, MAX_LOG_SCALE).exp() * images @ texts.mT
        same = (batch.tokens[:, None] == batch.tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.mT, target)) / 2
        right = same.gather(1, logits.detach().argmax(1, keepdim=True)).mean()
        return loss, {"batch_accuracy": right, "logit_scale": self.module.logit_scale.detach().exp()}

    def export(self, folder: Path) -> None:
        """Write an open_clip folder with the vocabulary."""
        save_contrastive(folder, self.module, self.config, self.vocabulary)

    def export_weights(self, folder: Path) -> None:
        """The same as :meth:`export`: there is nothing beside the weights."""
        self.export(folder)

    def write_samples(self, path: Path, execution: Execution) -> None:
        """A scorer draws nothing: show the first pictures it learns from."""
        from training.model_folders.sample_sheet import write_sheet

        write_sheet(path, np.asarray(self.shards.images[self.rows[: execution.sample_count]]))

    def _augment(self, images: np.ndarray, texts: list[str], draw: Draw) -> np.ndarray:
        images = _shift(images, self.options.shift_pixels, draw)
        if self.options.flip:
            blocked = set(self.options.no_flip_words)
            allowed = np.array([not blocked.intersection(split_words(text)) for text in texts])
            chosen = allowed & (draw.uniform("flip") < 0.5)
            images[chosen] = images[chosen][..., ::-1]
        return images


def _shift(images: np.ndarray, most: int, draw: Draw) -> np.ndarray:
    """Move each picture by up to ``most`` pixels either way, edges repeated."""
    if most == 0:
        return images
    height, width = images.shape[2:]
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    tops = (draw.uniform("shift_y") * (2 * most + 1)).astype(int)
    lefts = (draw.uniform("shift_x") * (2 * most + 1)).astype(int)
    moved: Any = [
        picture[:, top : top + height, left : left + width]
        for picture, top, left in zip(padded, tops, lefts, strict=True)
    ]
    return np.stack(moved)
