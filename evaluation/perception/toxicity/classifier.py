"""A text classifier of transformers by path: the probability that it gives one of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.errors import FoundryError
from training.recipes.validation import nearest


class Classifier:
    """Probabilities of ``label``: softmax over classes, or sigmoid where a text may have several."""

    def __init__(self, folder: Path, label: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True
            ).eval()
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise FoundryError(
                f"{folder}: is no text classifier that transformers can load ({error})"
            ) from error
        names = {str(name): int(number) for number, name in self._model.config.id2label.items()}
        if label not in names:
            raise FoundryError(f"{folder}: 'label' is '{label}'; {nearest(label, list(names))}")
        self._number = names[label]

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> list[float]:
        """How toxic each text is, in [0, 1]. A text without a letter is not toxic."""
        return [self._probability(text) if text.strip() else 0.0 for text in texts]

    def _probability(self, text: str) -> float:
        logits = self._model(**self._tokenizer(text, return_tensors="pt", truncation=True)).logits[0].float()
        several = self._model.config.problem_type == "multi_label_classification"
        values = logits.sigmoid() if several else logits.softmax(dim=0)
        return float(values[self._number])
