"""Tiny text checkpoints of the real classes with random weights, saved to folders as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

TEXTS = ["a red apple on a table", "", "cat", "word " * 30]
TOKENS = 16


def _tokenizer(begin: str | None) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # as in CLIP, the end token has the largest number
    tokens = ["<pad>", "<s>", *alphabet, "</s>"]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    end = ("</s>", tokens.index("</s>"))
    start = [(begin, tokens.index(begin))] if begin else []
    template = f"{begin} $A </s>" if begin else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[*start, end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token=begin, eos_token="</s>"
    )


def save(folder: Path, model: Any, tokenizer: Any, seed: int = 7) -> Path:
    """Weights drawn wide enough that states differ between texts, and the tokenizer's files."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25, generator=generator)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def clip(
    folder: Path, width: int = 32, *, projection: bool = True, tokenizer: bool = True, seed: int = 7
) -> Path:
    """A CLIP text tower of three layers, with or without projection."""
    words = _tokenizer("<s>")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=48, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=20, projection_dim=24, pad_token_id=0,
        bos_token_id=1, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return save(folder, kind(config), words if tokenizer else None, seed)


def t5(folder: Path, seed: int = 7) -> Path:
    """A T5 encoder of two layers."""
    words = _tokenizer(None)
    config = transformers.T5Config(
        vocab_size=len(words), d_model=40, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    return save(folder, transformers.T5EncoderModel(config), words, seed)


def open_clip(folder: Path) -> Path:
    """An open_clip checkpoint, picture tower included, as the library publishes them."""
    from open_clip.model import CLIP

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 32, "head_width": 16, "patch_size": 14},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 3},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = CLIP(**config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder
