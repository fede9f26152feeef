"""Which text encoder, and how its answers are read: settings, place, digest and widths. Light: imports no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from training.digests import canonical_json, sha256_bytes, sha256_file
from training.errors import FoundryError
from training.packaged_models import MAX_TOKENS, MINILM_DIM, minilm_digest
from training.recipes.section import Section

ENCODER_SEMANTICS_VERSION = 1
"""Raise when the same weights and settings would give other states: all stored states become outdated."""

COUNTED_SUFFIXES = (".safetensors", ".json", ".txt", ".model")
OPEN_CLIP_CONFIG = "open_clip_config.json"

Family = Literal["minilm", "bytes", "clip", "open_clip", "t5", "joined"]
Layer = Literal["last", "penultimate", "penultimate_normalized"]
Pooling = Literal["mean", "end", "projected", "zero"]


class FamilyFacts(NamedTuple):
    """Defaults of a family, and the ``model_type`` values of the checkpoints that it loads."""

    max_tokens: int
    pooled: Pooling
    poolings: tuple[Pooling, ...]
    layers: tuple[Layer, ...]
    model_types: tuple[str, ...] = ()


_LAYERS: tuple[Layer, ...] = ("last", "penultimate", "penultimate_normalized")

FAMILIES: Mapping[str, FamilyFacts] = MappingProxyType(
    {
        "minilm": FamilyFacts(MAX_TOKENS, "mean", ("mean",), ("last",)),
        "bytes": FamilyFacts(128, "zero", ("zero",), ("last",)),
        "clip": FamilyFacts(77, "end", ("end", "projected"), _LAYERS, ("clip_text_model", "clip")),
        "open_clip": FamilyFacts(77, "projected", ("end", "projected"), _LAYERS),
        "t5": FamilyFacts(120, "mean", ("mean",), ("last",), ("t5", "umt5", "mt5")),
    }
)


WITHOUT_PATH = ("minilm", "bytes")
"""Families that need no checkpoint: one comes in a package, the other has no parameters."""


class EncoderSettings(Section):
    """A text encoder. The default is MiniLM from its package; ``bytes`` spells (:mod:`training.text_encoders.byte_codes`).

    ``joined`` makes one encoder of several: SDXL's is CLIP-L and OpenCLIP-bigG side by side (``join: features``,
    pooled from the second), FLUX.1's T5 with CLIP-L's pooled vector (``states_from: [1], pooled_from: [0]``).
    """

    family: Family = "minilm"
    path: str | None = Field(
        default=None,
        description="folder or hub id of a checkpoint (safetensors); for all but minilm, bytes and joined",
    )
    layer: Layer = Field(
        default="last", description="last, penultimate (SDXL), or penultimate_normalized (SD 2)"
    )
    max_tokens: int = Field(
        default=0, ge=0, le=4096, description="texts are cut to so many tokens; 0 for the family's own"
    )
    keep_padding: bool = Field(
        default=False,
        description="pad every text to max_tokens without mask, as pipelines of SDXL, SD3 and FLUX.1 do",
    )
    pooled: Pooling | None = Field(
        default=None,
        description="mean of tokens, end token, projected end token, or zero; None: the family's own",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="precision of the encoder's weights; its states are float16"
    )
    parts: tuple[EncoderSettings, ...] = Field(default=(), description="encoders that are joined")
    join: Literal["features", "tokens"] = Field(
        default="features", description="states side by side, or one after the other (narrow ones padded)"
    )
    states_from: tuple[int, ...] = Field(default=(), description="parts that give states; empty for all")
    pooled_from: tuple[int, ...] = Field(default=(), description="parts that give the pooled vector; all")

    @model_validator(mode="before")
    @classmethod
    def _fill_family_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        facts = FAMILIES.get(values.get("family", "minilm"))
        filled = dict(values)
        if facts is not None:
            filled["max_tokens"] = values.get("max_tokens") or facts.max_tokens
            filled["pooled"] = values.get("pooled") or facts.pooled
        return filled

    @model_validator(mode="after")
    def _check_together(self) -> EncoderSettings:
        if self.family == "joined":
            self._check_parts()
            return self
        if self.parts or self.states_from or self.pooled_from:
            raise ValueError(
                f"'parts' belong to family 'joined', found them with '{self.family}'; remove them"
            )
        if (self.path is None) != (self.family in WITHOUT_PATH):
            need = "takes no 'path', it needs no files" if self.path else "needs 'path', a folder or hub id"
            raise ValueError(f"family '{self.family}' {need}")
        facts = FAMILIES[self.family]
        if self.layer not in facts.layers:
            raise ValueError(
                f"'layer' is '{self.layer}'; family '{self.family}' has {', '.join(facts.layers)}"
            )
        if self.pooled not in facts.poolings:
            raise ValueError(
                f"'pooled' is '{self.pooled}'; family '{self.family}' has {', '.join(facts.poolings)}"
            )
        if self.family in WITHOUT_PATH and self.keep_padding:
            raise ValueError(
                f"'keep_padding' is for models trained without a mask; '{self.family}' is not, leave it out"
            )
        return self

    def _check_parts(self) -> None:
        if len(self.parts) < 2 or self.path is not None:
            raise ValueError("family 'joined' needs two or more 'parts' and no 'path'")
        for name in ("states_from", "pooled_from"):
            wrong = [index for index in getattr(self, name) if not 0 <= index < len(self.parts)]
            if wrong:
                raise ValueError(
                    f"'{name}' names part {wrong[0]}; there are parts 0 to {len(self.parts) - 1}"
                )

    @property
    def state_parts(self) -> tuple[int, ...]:
        """Parts that give states."""
        return self.states_from or tuple(range(len(self.parts)))

    @property
    def pooled_parts(self) -> tuple[int, ...]:
        """Parts that give pooled vectors."""
        return self.pooled_from or tuple(range(len(self.parts)))

    @property
    def total_tokens(self) -> int:
        """Most tokens that a text may have."""
        if self.family != "joined":
            return self.max_tokens
        lengths = [self.parts[index].total_tokens for index in self.state_parts]
        return sum(lengths) if self.join == "tokens" else max(lengths)


class Widths(NamedTuple):
    """Width of token states and of pooled vectors."""

    states: int
    pooled: int


BYTE_WIDTHS = Widths(128, 16)


def encoder_name(settings: EncoderSettings) -> str:
    """A short name for tables: the folder's or hub id's last part."""
    if settings.family == "joined":
        return " + ".join(encoder_name(part) for part in settings.parts)
    if settings.path is None:
        return "all-MiniLM-L6-v2" if settings.family == "minilm" else "bytes"
    return Path(settings.path).name


def encoder_digest(settings: EncoderSettings) -> str:
    """Identity of every state that the encoder makes: sha256 over weights, tokenizer, configuration and settings.

    Raises FoundryError when the checkpoint is missing or no safetensors.
    """
    if settings.family == "minilm":
        return minilm_digest(settings.max_tokens)
    about: dict[str, Any] = settings.model_dump(mode="json", exclude={"path", "parts"})
    files: Any = []
    if settings.family == "joined":
        files = [encoder_digest(part) for part in settings.parts]
    elif settings.family not in WITHOUT_PATH:
        folder = encoder_folder(settings)
        checked_config(settings, folder)
        files = [_files_digest(folder), _files_digest(tokenizer_folder(folder))]
    about |= {"files": files, "version": ENCODER_SEMANTICS_VERSION}
    return sha256_bytes(canonical_json(about).encode())


def encoder_widths(settings: EncoderSettings) -> Widths:
    """Widths of what the encoder gives, from its configuration. Raises FoundryError when it is missing."""
    if settings.family == "joined":
        parts = [encoder_widths(part) for part in settings.parts]
        states = [parts[index].states for index in settings.state_parts]
        pooled = sum(parts[index].pooled for index in settings.pooled_parts)
        return Widths(max(states) if settings.join == "tokens" else sum(states), pooled)
    if settings.family == "minilm":
        return Widths(MINILM_DIM, MINILM_DIM)
    if settings.family == "bytes":
        return BYTE_WIDTHS
    config = checked_config(settings, encoder_folder(settings))
    return _WIDTHS[settings.family](config, settings)


def encoder_folder(settings: EncoderSettings) -> Path:
    """The local folder of a checkpoint: ``path`` itself, or the snapshot of a hub id.

    Only files that can be loaded without running their code are fetched; nothing is when HF_HUB_OFFLINE is set.
    Raises FoundryError naming the path or id and the remedy.
    """
    path = str(settings.path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise FoundryError(
            f"text_encoder: path '{path}': no such folder. Give the folder of a checkpoint (configuration and "
            "*.safetensors), or a hub id such as org/name."
        )
    return _snapshot(path)


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer lies: in the checkpoint, or beside it as in pipeline folders (``text_encoder_2``)."""
    if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        return folder
    beside = folder.with_name(folder.name.replace("text_encoder", "tokenizer"))
    return beside if beside.is_dir() else folder


def checked_config(settings: EncoderSettings, folder: Path) -> dict[str, Any]:
    """The checkpoint's configuration. Raises FoundryError for another family or weights that are pickles."""
    path = folder / (OPEN_CLIP_CONFIG if settings.family == "open_clip" else "config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FoundryError(
            f"{path}: no readable configuration ({error}); family '{settings.family}' needs one. Give the folder "
            "of such a checkpoint, or another family."
        ) from error
    allowed = FAMILIES[settings.family].model_types
    if allowed and config.get("model_type") not in allowed:
        raise FoundryError(
            f"{path}: model_type is '{config.get('model_type')}', but family '{settings.family}' loads "
            f"{' or '.join(allowed)}. Name the family of this checkpoint, or another folder."
        )
    if not any(folder.glob("*.safetensors")):
        raise FoundryError(
            f"{folder}: weights must be *.safetensors files, found none. Convert them with save_pretrained, or take "
            "a revision that has them."
        )
    return dict(config)


def _snapshot(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repository,
            local_files_only=bool(HF_HUB_OFFLINE),
            allow_patterns=[f"*{suffix}" for suffix in COUNTED_SUFFIXES],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, ConnectionError) as error:
        raise FoundryError(
            f"text_encoder: path '{repository}': no such folder here, and as a hub id it could not be had: {error}. "
            f"Download it where there is a network (hf download {repository}), or give a local folder."
        ) from error
    return Path(found)


def _files_digest(folder: Path) -> list[list[str]]:
    """Names and digests of the files that count, hashed once a process while they do not change."""
    files = sorted(path for path in folder.iterdir() if path.suffix in COUNTED_SUFFIXES and path.is_file())
    return [[path.name, _known_digest(path, path.stat().st_size, path.stat().st_mtime_ns)] for path in files]


@lru_cache(maxsize=256)
def _known_digest(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


def _clip_widths(config: Mapping[str, Any], settings: EncoderSettings) -> Widths:
    text = config.get("text_config") or config
    projected = config.get("projection_dim") or text.get("projection_dim", 512)
    width = text.get("hidden_size", 512)
    return Widths(width, projected if settings.pooled == "projected" else width)


def _open_clip_widths(config: Mapping[str, Any], settings: EncoderSettings) -> Widths:
    model = config["model_cfg"]
    width = model["text_cfg"].get("width", 512)
    return Widths(width, model["embed_dim"] if settings.pooled == "projected" else width)


def _t5_widths(config: Mapping[str, Any], settings: EncoderSettings) -> Widths:
    return Widths(config["d_model"], config["d_model"])


_WIDTHS: Mapping[str, Callable[[Mapping[str, Any], EncoderSettings], Widths]] = MappingProxyType(
    {"clip": _clip_widths, "open_clip": _open_clip_widths, "t5": _t5_widths}
)
