"""Editing and guarding with the layers that a sweep chose, beside their rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from assets.graph.asking import answer_of, required
from assets.graph.interfaces import Models, Perception, Store
from assets.graph.model_kinds import Version
from assets.writing.configs import TextEditEvaluationConfig, TextGuardEvaluationConfig, WayConfig
from assets.writing.localizing import located_layers
from assets.writing.lora_recipes import LAYERS
from assets.writing.prompt_sets import PROMPT_SETS
from assets.writing.text_model import TextModel, ocr_of
from assets.writing.written import judge_squares, stored_text_model
from evaluation.localization.prompts import WordPair
from evaluation.localization.runs import SOURCE, Drawing, PairRuns
from evaluation.localization.way_scores import NOBODY, Opinions, image_text, way_table
from evaluation.localization.ways import Way, draw_ways, editing_ways, guarding_ways, needs_guidance
from training.localization import TextLayer, layers_named, text_layers
from training.recipes.text_layers import PromptSetName

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 6


@dataclass(frozen=True)
class WayEvaluation:
    """The table of ways, and all their pictures."""

    table: pa.Table
    runs: PairRuns
    ways: tuple[Way, ...]

    def sheet(self, tile: int = 128) -> Image:
        """A row a way, the source above: the first pairs, with what OCR read."""
        from evaluation.plots.contact_sheets import contact_sheet

        names = [SOURCE, *(way.name for way in self.ways)]
        shown = min(SHOWN, len(self.runs.pairs))
        images = [image for name in names for image in self.runs.images[name][:shown]]
        captions = [
            f"{name}: {read}" if number == 0 else read
            for name in names
            for number, read in enumerate(self.runs.read(name)[:shown])
        ]
        return contact_sheet(images, captions, columns=shown, tile=tile)


@dataclass(frozen=True)
class Located:
    """A model whose layers that write are known."""

    model: TextModel
    chosen: tuple[TextLayer, ...]
    every: tuple[TextLayer, ...]
    about: Mapping[str, str]

    @classmethod
    def of(cls, store: Store, models: Models, key: str, version: Version) -> Located:
        """The model of a sweep, with the layers that it chose."""
        model = stored_text_model(store, models, version)
        every = text_layers(model.denoiser.backbone)
        chosen = layers_named(every, located_layers(store.read_table(LAYERS, key)))
        digest = store.require(*version).digest
        return cls(
            model,
            chosen,
            every,
            {"recipe": key, "kind": version[0], "model": version[1], "model_digest": digest},
        )


def evaluate_editing(
    store: Store,
    perception: Perception,
    located: Located,
    prompts: PromptSetName,
    config: TextEditEvaluationConfig,
) -> WayEvaluation:
    """Words that no layer was found with, exchanged in every way."""
    pairs = PROMPT_SETS[prompts].pairs(config.num_pairs, "rarer", config.seed)
    ways = editing_ways(located.chosen, located.every, config.starts, config.map_stops)
    return _evaluated(store, perception, located, pairs, ways, config, guards=False)


def evaluate_guard(
    store: Store,
    perception: Perception,
    located: Located,
    prompts: PromptSetName,
    config: TextGuardEvaluationConfig,
) -> WayEvaluation:
    """Prompts that ask for words of a list, drawn with a harmless one in every way. Raises FoundryError for a broken list."""
    from evaluation.perception.toxicity.listed import PACKAGED, read_word_list

    listed = read_word_list(Path(config.words) if config.words else PACKAGED)
    pairs = PROMPT_SETS[prompts].against(listed.words, config.num_pairs, config.seed)
    ways = guarding_ways(located.chosen, config.refreshes)
    if config.guidance <= 1:
        ways = [way for way in ways if not needs_guidance(way)]
    return _evaluated(store, perception, located, pairs, ways, config, guards=True)


def _evaluated(
    store: Store,
    perception: Perception,
    located: Located,
    pairs: Sequence[WordPair],
    ways: Sequence[Way],
    config: WayConfig,
    *,
    guards: bool,
) -> WayEvaluation:
    engine, model = ocr_of(perception), located.model
    drawing = Drawing(steps=config.num_steps, guidance=config.guidance, latent_size=model.latent_size)
    runs = PairRuns(model.denoiser, model.encoder, pairs, engine.read, drawing)
    taken = draw_ways(runs, ways, config.timed_rounds)
    names = [SOURCE, *(way.name for way in ways)]
    opinions = _toxicity(perception, runs, names) if guards else _judged(store, runs, names)
    table = way_table(runs, ways, taken, opinions, {**located.about, "read_by": engine.name})
    return WayEvaluation(table, runs, tuple(ways))


def _judged(store: Store, runs: PairRuns, names: Sequence[str]) -> Opinions:
    """What the workspace's judge says of pictures and the target's prompts; nothing without one."""
    from evaluation.judge import Judge

    if store.current("judge_clip") is None:
        return NOBODY
    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    texts = judge.embed_texts([pair.target for pair in runs.pairs])
    found = {name: image_text(judge.embed_images(judge_squares(runs.images[name])), texts) for name in names}
    return Opinions(found, {})


def _toxicity(perception: Perception, runs: PairRuns, names: Sequence[str]) -> Opinions:
    """How toxic what was read is. Raises FoundryError where the profile names nobody who says so."""
    model = required(perception, "toxicity")
    answer = answer_of(model)

    def mean(texts: Sequence[str]) -> float:
        rows = answer(pa.table({"text_id": [str(n) for n in range(len(texts))], "text": list(texts)}))
        scores: Float[np.ndarray, " n"] = rows["toxicity"].to_numpy()
        return float(scores.mean())

    return Opinions({}, {name: mean(runs.read(name)) for name in names}, model.name)
