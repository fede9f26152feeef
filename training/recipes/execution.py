"""How a specification is run on this machine: outside the hash, for it changes nothing that a run means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from training.errors import FoundryError
from training.recipes.section import Positive, Section
from training.recipes.text_encoder import EncoderSettings


class Execution(Section):
    """How a specification is run on this machine; outside the hash (threads move the last bits)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of torch")
    world_size: int = Field(
        default=1, ge=1, le=4096, description="training processes; with 1 as many take part as come"
    )
    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="several processes hold a copy of the weights each (ddp) or a shard (fsdp)"
    )
    compile: bool = Field(default=False, description="torch.compile the backbone")
    log_every_images: Positive = Field(default=512, description="one row of metrics per so many images")
    checkpoint_every_seconds: float = Field(
        default=30.0,
        gt=0,
        le=86400,
        description="or a hundred times as long as the last one held up training",
    )
    checkpoint_every_images: Positive | None = Field(
        default=None, description="also after so many images; for tests"
    )
    asynchronous_saving: bool = Field(
        default=True,
        description="training goes on while a checkpoint is written; costs a copy in host memory",
    )
    keep_checkpoints: int = Field(default=2, ge=1, le=100)
    snapshot_images: tuple[Positive, ...] = Field(
        default=(), description="keep the backbone once it has seen so many images, ascending"
    )
    channels_last: bool | None = Field(
        default=None, description="memory format of convolutional backbones; None: on a GPU only"
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="compute activations again in the backward pass: less memory, a third more work",
    )
    offload_base: bool = Field(
        default=False,
        description="frozen linear layers stay in the host's memory between uses; needs a recipe with lora",
    )
    sample_every_images: Positive | None = Field(
        default=None, description="write a sheet of samples; None for never"
    )
    sample_count: int = Field(default=8, ge=1, le=256)
    sample_steps: int = Field(default=10, ge=1, le=1000)
    sample_guidance: float = Field(default=3.0, ge=1, le=100)
    verify_inputs_below_gib: float = Field(
        default=4.0, ge=0, description="inputs up to this size are hashed before use"
    )
    input_paths: dict[str, str] = Field(
        default_factory=dict,
        description="where each input lies on this machine; the dataset may be an fsspec URL, which is staged",
    )
    text_mode: Literal["stored", "stage", "step"] = Field(
        default="stored",
        description="text states are read (stored), encoded ahead in a thread (stage), or in the step (step)",
    )
    text_encoder: EncoderSettings | None = Field(
        default=None, description="where text is encoded while training: the encoder; None for MiniLM"
    )
    text_batches_ahead: int = Field(
        default=4, ge=1, le=1024, description="text_mode 'stage': batches that may wait"
    )
    text_device: Literal["same", "cpu", "cuda"] = Field(
        default="same", description="where text is encoded while training; same: the device of the training"
    )
    local_cache: str | None = Field(
        default=None,
        description="folder for the shards of a dataset by URL; None: below the temporary folder",
    )
    local_cache_gib: float = Field(
        default=64.0, gt=0, le=2**20, description="most that staged shards may take, per training process"
    )


def input_place(execution: Execution, name: str) -> str:
    """Folder or URL of an input. Raises FoundryError when ``execution.json`` does not say."""
    if name not in execution.input_paths:
        raise FoundryError(f"execution.json: input_paths lacks '{name}'; say where it lies on this machine")
    return execution.input_paths[name]


def input_folder(execution: Execution, name: str) -> Path:
    """An input that lies on this machine. Raises FoundryError when ``execution.json`` does not say where."""
    return Path(input_place(execution, name))
