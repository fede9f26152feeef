"""Role answers: a vision-language model is shown the part of a picture in a box, and asked about it."""

from __future__ import annotations

import pyarrow as pa

from evaluation.perception.hub.captioning import answer_all, make_ask
from evaluation.perception.hub.images import crop, open_image
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker, answers_table
from evaluation.perception.hub.settings import HubModel


class HubAnswerer:
    """Batch function of role answers: rows (question_id, question, box_xyxy_norm, image) to one answer each.

    The model sees the box without a margin: what lies around it is not asked about.
    """

    def __init__(self, loaded: Loaded, settings: HubModel, maker: Maker) -> None:
        self._loaded, self._settings, self._maker = loaded, settings, maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Answers in the rows' order. Raises FoundryError naming the question whose picture is broken."""
        settings, opened, asks = self._settings, {}, []
        template = settings.prompts_for("answers")[0]
        for row in rows.to_pylist():
            unit = row["question_id"]
            if row["image"] not in opened:  # questions about one picture come together
                opened[row["image"]] = open_image(row["image"], f"question {unit}", settings.max_image_side)
            part = crop(opened[row["image"]], row["box_xyxy_norm"], 0.0)
            prompt = template.replace("{question}", row["question"])
            asks.append(make_ask(self._loaded, settings.family, unit, prompt, part, 1))
        said = {ask.unit: answers[0].text for ask, answers in answer_all(self._loaded, settings, asks)}
        return answers_table({unit: said[unit] for unit in rows["question_id"].to_pylist()}, self._maker)
