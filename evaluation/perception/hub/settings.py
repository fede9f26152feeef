"""Settings of a perception model out of the hub, as a profile gives them. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from evaluation.perception.hub.families import FAMILIES, check_role
from evaluation.perception.roles import ROLES, HubPart
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.recipes.section import Fraction, Section
from training.recipes.validation import validate

HUB_VERSION = 1  # raise when answers change though weights and settings do not
_EXECUTION = {"device", "batch_size", "cpus", "gpus", "actors", "threads"}
_PLACE = {"path", "revision"}  # the digest of the weights stands for them


def _known_family(value: object) -> object:
    if isinstance(value, str) and value in FAMILIES:
        return value
    *most, last = (repr(name) for name in FAMILIES)
    raise ValueError(f"input should be {', '.join(most)} or {last}")


FamilyName = Annotated[str, BeforeValidator(_known_family)]


class Decoding(Section):
    """How text is drawn from a model. Fields of another mode than the chosen one change nothing."""

    mode: Literal["beam", "sample", "greedy"] = "greedy"
    temperature: float = Field(default=1.0, gt=0, le=10, description="sample: divides the logits")
    top_k: int = Field(default=50, ge=0, le=10**6, description="sample: most likely tokens kept, 0 for all")
    top_p: float = Field(default=1.0, gt=0, le=1, description="sample: probability mass kept")
    num_beams: int = Field(default=5, ge=2, le=64, description="beam: beams of one image and prompt")
    max_new_tokens: int = Field(default=256, ge=1, le=4096)
    min_new_tokens: int = Field(default=0, ge=0, le=4096)

    @model_validator(mode="after")
    def _lengths_agree(self) -> Decoding:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"'min_new_tokens' is {self.min_new_tokens}, more than 'max_new_tokens' ({self.max_new_tokens}); "
                "lower the first or raise the second"
            )
        return self

    def used(self) -> dict[str, Any]:
        """The fields that take part in the chosen mode, for rows and digests."""
        names = ["mode", "max_new_tokens", "min_new_tokens"]
        names += {"beam": ["num_beams"], "sample": ["temperature", "top_k", "top_p"], "greedy": []}[self.mode]
        return {name: getattr(self, name) for name in names}


class HubModel(Section):
    """One model by local folder or hub id, and how it is asked.

    Execution (device, batch_size, cpus, gpus, actors, threads) stays outside the digest. In float32 it does not change
    answers but for ties within rounding; in bf16 and fp16 the padding of a batch can flip a close decision between two
    tokens, so that two runs with other batches may differ in a few rows that carry the same digest.
    """

    family: FamilyName
    path: str = Field(min_length=1, description="local folder, or hub id such as org/name")
    revision: str | None = Field(default=None, description="hub id only: branch, tag or commit")
    dtype: Literal["float32", "bf16", "fp16"] = "float32"
    prompts: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="None for the family's own; may hold {phrase}, {caption} or {question}",
    )
    num_candidates: int = Field(
        default=1, ge=1, le=64, description="captions an image, dealt over the prompts"
    )
    decoding: Decoding = Decoding()
    seed: int = Field(default=0, ge=0, lt=2**63)
    max_image_side: int = Field(
        default=1024, ge=32, le=16384, description="longer side in pixels that images are reduced to"
    )
    crop_margin: float = Field(
        default=0.1, ge=0, le=2, description="describer: added on each side, as a share of the box's side"
    )
    box_threshold: Fraction = Field(default=0.25, description="detector: least score of a box")
    text_threshold: Fraction = Field(default=0.25, description="grounding_dino: least score of a token")
    max_boxes: int = Field(default=100, ge=1, le=2000, description="detector: best boxes kept of a sample")
    engine: Literal["transformers", "vllm"] = "transformers"
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    batch_size: int = Field(default=8, ge=1, le=4096)
    cpus: float = Field(default=1.0, ge=0, le=1024)
    gpus: float = Field(default=0.0, ge=0, le=64)
    actors: int = Field(default=1, ge=1, le=4096)
    threads: int = Field(default=1, ge=1, le=1024)

    @model_validator(mode="after")
    def _engine_fits(self) -> HubModel:
        if self.engine == "vllm" and not FAMILIES[self.family].uses_chat:
            able = ", ".join(name for name, family in FAMILIES.items() if family.uses_chat)
            raise ValueError(f"'engine' is 'vllm', which needs a family with a chat template ({able})")
        if self.engine == "vllm" and self.decoding.mode == "beam":
            raise ValueError("'decoding.mode' is 'beam', which vllm does not offer; use 'sample' or 'greedy'")
        return self

    def prompts_for(self, role: str) -> tuple[str, ...]:
        """The prompts asked in a role: the settings' own, or the family's."""
        return self.prompts if self.prompts is not None else FAMILIES[self.family].roles[role].prompts

    def candidates_per_prompt(self, role: str) -> list[int]:
        """How many candidates each prompt gives; the first prompts give one more where it does not come out even."""
        count = len(self.prompts_for(role))
        wanted = self.num_candidates if _hub_part(role).several else 1
        return [wanted // count + (index < wanted % count) for index in range(count)]

    def digest(self, role: str, weights: str) -> str:
        """sha256 over the weights' digest and every setting that changes the answer in this role."""
        answers = self.model_dump(mode="json", exclude=_EXECUTION | _PLACE | {"prompts", "decoding"})
        answers |= {"prompts": list(self.prompts_for(role)), "decoding": self.decoding.used()}
        kept = {name: value for name, value in answers.items() if name not in _unused(role, self.family)}
        return sha256_bytes(
            canonical_json(
                {"weights": weights, "role": role, "settings": kept, "version": HUB_VERSION}
            ).encode()
        )


def read_settings(values: Mapping[str, Any], role: str, where: str = "perception model") -> HubModel:
    """Validate a model's settings for a role.

    Raises FoundryError naming ``where``, the field, what is allowed and the remedy (unknown keys with the nearest one).
    """
    settings = validate(HubModel, values, where)
    try:
        check_role(settings.family, role)
        _check_prompts(settings, role)
        _check_candidates(settings, role)
    except FoundryError as error:
        raise FoundryError(f"{where}: {error}") from None
    return settings


def _check_prompts(settings: HubModel, role: str) -> None:
    prompts = settings.prompts_for(role)
    if len(prompts) > 1 and not _hub_part(role).several:
        raise FoundryError(f"'prompts' has {len(prompts)} entries; role '{role}' takes one")
    needed = _hub_part(role).prompt_holds
    if needed not in prompts[0]:
        raise FoundryError(f"'prompts' is {prompts[0]!r}; for role '{role}' it must hold {needed}")


def _check_candidates(settings: HubModel, role: str) -> None:
    most = max(settings.candidates_per_prompt(role))
    mode = settings.decoding.mode
    if mode == "greedy" and most > 1:
        raise FoundryError(
            f"'num_candidates' is {settings.num_candidates} for {len(settings.prompts_for(role))} prompts, but greedy "
            "decoding knows one answer a prompt; set decoding.mode to 'sample' or 'beam', or give more prompts"
        )
    if mode == "beam" and most > settings.decoding.num_beams:
        raise FoundryError(
            f"'decoding.num_beams' is {settings.decoding.num_beams}, less than the {most} candidates of a prompt; "
            "raise it or lower 'num_candidates'"
        )
    if _hub_part(role).is_greedy and mode != "greedy":
        raise FoundryError(f"'decoding.mode' is '{mode}'; role '{role}' decodes greedily only")


def _unused(role: str, family: str) -> set[str]:
    """Settings that do not take part in a role, so that changing them recomputes nothing."""
    owned = {name for row in ROLES.values() if row.hub is not None for name in row.hub.settings}
    owned |= {name for row in FAMILIES.values() for name in row.settings}
    used = {*_hub_part(role).settings, *FAMILIES[family].settings}
    return (owned - used) | FAMILIES[family].ignored_settings


def _hub_part(role: str) -> HubPart:
    """How hub models are asked in a role that their family can take."""
    part = ROLES[role].hub
    if part is None:
        raise FoundryError(f"role '{role}': models by path cannot fill it.")
    return part
