"""Load a checkpoint into its transformers class, refusing whatever would load wrongly or run code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evaluation.perception.hub.families import FAMILIES, Family
from evaluation.perception.hub.settings import HubModel
from evaluation.perception.hub.weights import check_checkpoint
from training.errors import FoundryError

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer, with its processor (for language models the tokenizer is the processor)."""

    model: Any
    processor: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the answer starts anew (True) or continues the prompt."""
        config = self.model.config
        return bool(
            getattr(config, "is_encoder_decoder", False)
            or not getattr(config, "use_decoder_only_language_model", True)
        )

    def to_device(self, inputs: Any) -> dict[str, Any]:
        """Tensors on the model's device, floating ones in its dtype; what is no tensor stays out."""
        moved = {}
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor):
                floating = value.is_floating_point()
                moved[name] = value.to(self.device, self.dtype) if floating else value.to(self.device)
        return moved


def pick_device(wanted: str) -> torch.device:
    """The device of the settings; "auto" is CUDA where there is one. Raises FoundryError where it is missing."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise FoundryError(
            f"'device' is '{wanted}', but torch sees no CUDA device here; set it to 'auto' or 'cpu'."
        )
    return torch.device(wanted)


def load(folder: Path, settings: HubModel) -> Loaded:
    """Load model and processor of a checkpoint folder, in evaluation mode.

    Raises FoundryError when the folder is of another family, holds pickles, needs its own code to be run, lacks
    files of the processor, or does not hold every weight of the model.
    """
    import transformers

    family = FAMILIES[settings.family]
    config = check_checkpoint(folder, settings.family)
    device, dtype = pick_device(settings.device), DTYPES[settings.dtype]
    processor = _load_processor(folder, family)
    model_class = getattr(transformers, family.class_of(str(config.get("model_type", ""))))
    model = _load_weights(folder, model_class, dtype).to(device).eval()
    tokenizer = getattr(processor, "tokenizer", processor) if family.reads_text else None
    loaded = Loaded(model, processor, tokenizer, device, dtype)
    if tokenizer is not None:
        _prepare_tokenizer(tokenizer, left=not loaded.is_encoder_decoder and hasattr(model, "generate"))
    return loaded


def _prepare_tokenizer(tokenizer: Any, *, left: bool) -> None:
    """Pad in front where the answer continues the prompt, and with the end token where there is none to pad."""
    if left:
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token


def _load_processor(folder: Path, family: Family) -> Any:
    import transformers

    is_text = not family.reads_images
    kind = getattr(transformers, family.processor)
    try:
        processor = kind.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise FoundryError(
            f"{folder}: its {'tokenizer' if is_text else 'processor'} cannot be loaded ({_first_line(error)}). "
            "Complete the folder with the checkpoint's tokenizer and processor files, or install what is named."
        ) from error
    if family.processor == "AutoProcessor" and not hasattr(processor, "image_processor"):
        raise FoundryError(
            f"{folder}: no image processor came with it. Complete the folder with the checkpoint's "
            "processor_config.json or preprocessor_config.json."
        )
    return processor


def _load_weights(folder: Path, model_class: Any, dtype: torch.dtype) -> Any:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for each actor would fill the log
    try:
        model, info = model_class.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise FoundryError(
            f"{folder}: {model_class.__name__} cannot be loaded ({_first_line(error)}). "
            "Give a whole checkpoint of this family that needs no code of its own."
        ) from error
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing:  # transformers would fill them with random numbers and go on
        raise FoundryError(
            f"{folder}: its weights lack {len(missing)} of {model_class.__name__}'s tensors, such as '{missing[0]}'. "
            "Give a checkpoint saved in transformers' own layout for this class."
        )
    return model


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
