"""Run config of models that write."""

import dagster as dg
from pydantic import Field

from assets.models.configs import BackboneConfig, ShippedConfig


class ShippedWriterConfig(ShippedConfig):
    """Settings of ``shipped_writer``, which is what ships."""


class TextLayerLocalizationConfig(dg.Config):
    """Settings of ``text_layer_localization``."""

    num_pairs: int = Field(12, description="pairs of words that are exchanged, each from one noise", ge=2)
    num_steps: int = Field(16, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(1.0, description="away from the empty text, 1 is none", ge=0)
    start: float = Field(0.0, description="share of the steps before the first that is patched", ge=0, lt=1)
    enough: float = Field(
        0.9, description="share of what all layers bring that is enough for a group of them", gt=0, le=1
    )
    candidates: int = Field(
        4,
        description="single layers that groups are made of, farthest from the source's word and nearest to the target's",
        ge=2,
    )
    largest_group: int = Field(3, description="most layers of a group", ge=1)


class LocalizedLoraConfig(BackboneConfig):
    """Settings of ``localized_lora``. A changed recipe value is another specification and so another run."""

    num_prompts: int = Field(64, description="words that parent and adapted model are asked to write", ge=4)
    num_steps: int = Field(16, description="evaluations of the scheduler when the two are compared", ge=1)
    guidance: float = Field(1.0, description="away from the empty text, 1 is none", ge=0)


class LocalizedLoraComparisonConfig(dg.Config):
    """Settings of ``localized_lora_comparison``."""

    metrics: list[str] = Field(
        ["written_f1", "written_exact", "image_text", "fidelity", "diversity"],
        description="metrics by which every two adapters are held together",
        min_length=1,
    )


class WayConfig(dg.Config):
    """How pictures of pairs are drawn, and how often each way is timed."""

    num_pairs: int = Field(24, description="pairs of words, each from one noise", ge=2)
    num_steps: int = Field(16, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(1.0, description="away from the empty text, 1 is none", ge=0)
    timed_rounds: int = Field(3, description="the fastest of so many rounds counts", ge=1)
    seed: int = Field(1000, description="of words and noise; others than those of the sweep", ge=0)


class TextEditEvaluationConfig(WayConfig):
    """Settings of ``text_edit_evaluation``."""

    starts: list[float] = Field(
        [0.0, 0.2],
        description="shares of the steps before the first that is patched, the first one counts",
        min_length=1,
    )
    map_stops: list[float] = Field(
        [0.8, 0.4],
        description="shares of the steps that the source's attention maps are kept for",
        min_length=1,
    )


class TextGuardEvaluationConfig(WayConfig):
    """Settings of ``text_guard_evaluation``."""

    guidance: float = Field(
        2.0, description="away from the empty text; two of the rivals need more than 1", ge=0
    )
    words: str = Field(
        "",
        description="JSON file with source, license and the words that prompts ask for; empty: the packaged list",
    )
    refreshes: list[int] = Field(
        [1, 4],
        description="how often keys and values of joint attention are computed, the first one counts",
        min_length=1,
    )
