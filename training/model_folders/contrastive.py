"""A small open_clip model with a vocabulary of words: pictures and captions as unit vectors of one space."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from training.errors import FoundryError
from training.recipes.contrastive import ContrastiveOptions
from training.run_folder import PROBE

CONFIG, WEIGHTS, VOCABULARY = "open_clip_config.json", "open_clip_model.safetensors", "vocabulary.json"
PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2
PIXEL_SCALE = 2.0  # pictures in [-1, 1] are stretched so: (x / 255 - 0.5) / 0.25


@dataclass(frozen=True)
class WordVocabulary:
    """Lower-case words and signs seen in training; the end token is the largest number, as open_clip pools."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordVocabulary:
        """All words of the texts, sorted."""
        return cls(tuple(sorted({word for text in texts for word in split_words(text)})))

    @property
    def size(self) -> int:
        """Words, padding, unknown and end."""
        return FIRST_WORD + len(self.words) + 1

    def encode(self, texts: Sequence[str], max_tokens: int) -> Int64[np.ndarray, "texts tokens"]:
        """Token numbers, cut to ``max_tokens`` with the end token, padded with 0."""
        numbers = {word: FIRST_WORD + index for index, word in enumerate(self.words)}
        tokens = np.full((len(texts), max_tokens), PADDING, np.int64)
        for row, text in enumerate(texts):
            known = [numbers.get(word, UNKNOWN) for word in split_words(text)][: max_tokens - 1]
            tokens[row, : len(known) + 1] = [*known, self.size - 1]
        return tokens


def split_words(text: str) -> list[str]:
    """Words, numbers and single signs, in lower case."""
    return re.findall(r"[a-z]+|[0-9]+|[^\sa-z0-9]", text.lower())


def model_config(options: ContrastiveOptions, image_size: int, vocabulary_size: int) -> dict[str, Any]:
    """open_clip's ``model_cfg``."""
    layers = options.image_layers
    vision: dict[str, Any] = {
        "image_size": image_size,
        "layers": list(layers) if len(layers) == 4 else layers[0],
        "width": options.image_width,
        "head_width": options.image_head_width,
    }
    if len(layers) == 1:
        vision["patch_size"] = options.image_patch
    text = {
        "context_length": options.max_tokens,
        "vocab_size": vocabulary_size,
        "width": options.text_width,
        "heads": options.text_heads,
        "layers": options.text_layers,
    }
    return {"embed_dim": options.embed_dim, "vision_cfg": vision, "text_cfg": text}


def build_clip(config: dict[str, Any], seed: int) -> Any:
    """An open_clip CLIP with initial weights from the seed; torch's own state is kept."""
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**config).to(memory_format=torch.channels_last)


def save_contrastive(folder: Path, clip: Any, config: dict[str, Any], vocabulary: WordVocabulary) -> None:
    """Write a folder that ``open_clip.create_model('local-dir:FOLDER')`` loads, our vocabulary and a probe beside."""
    folder.mkdir(parents=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "size": [config["vision_cfg"]["image_size"]] * 2}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n")
    (folder / VOCABULARY).write_text(json.dumps(vocabulary.words, indent=0) + "\n")
    save_file({name: value.contiguous().cpu() for name, value in clip.state_dict().items()}, folder / WEIGHTS)
    save_file(probe_contrastive(ContrastiveModel.load(folder)), folder / PROBE)


class ContrastiveModel:
    """A trained image-text scorer, by folder."""

    def __init__(self, clip: Any, vocabulary: WordVocabulary, max_tokens: int) -> None:
        self.clip = clip.eval()
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, folder: Path) -> ContrastiveModel:
        """Load a model folder. Raises FoundryError when a file is missing."""
        folder = Path(folder)
        for name in (CONFIG, WEIGHTS, VOCABULARY):
            if not (folder / name).is_file():
                raise FoundryError(
                    f"{folder / name}: missing; name the model/ folder of a finished contrastive run"
                )
        config = json.loads((folder / CONFIG).read_text())["model_cfg"]
        clip = build_clip(config, seed=0)
        clip.load_state_dict(load_file(folder / WEIGHTS))
        vocabulary = WordVocabulary(tuple(json.loads((folder / VOCABULARY).read_text())))
        return cls(clip, vocabulary, config["text_cfg"]["context_length"])

    @torch.inference_mode()
    def embed_images(
        self, images: UInt8[np.ndarray, "n h w 3"], batch_size: int = 64
    ) -> Float32[np.ndarray, "n dim"]:
        """Unit vectors of pictures."""
        parts = []
        for start in range(0, len(images), batch_size):
            scaled = images[start : start + batch_size].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
            parts.append(embed_pixels(self.clip, torch.from_numpy(scaled)))
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> Float32[np.ndarray, "n dim"]:
        """Unit vectors of texts; words never seen in training all read as one unknown word."""
        tokens = torch.from_numpy(self.vocabulary.encode(texts, self.max_tokens))
        return torch.cat(
            [self.clip.encode_text(part, normalize=True) for part in tokens.split(batch_size)]
        ).numpy()


def probe_contrastive(model: ContrastiveModel) -> dict[str, Tensor]:
    """Vectors of a fixed picture and text; equal before saving and after loading."""
    size = model.clip.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    text = " ".join(model.vocabulary.words[:8])
    vectors = {"images": model.embed_images(picture), "texts": model.embed_texts([text])}
    return {name: torch.from_numpy(vector) for name, vector in vectors.items()}


def embed_pixels(clip: Any, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b dim"]:
    """Unit vectors of pictures in [-1, 1]."""
    stretched = (pixels * PIXEL_SCALE).contiguous(memory_format=torch.channels_last)
    return functional.normalize(clip.encode_image(stretched), dim=-1)
