"""The model families that perception can load, by name: their classes, roles and prompts. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from training.errors import FoundryError
from training.validation import nearest

HubRole = Literal["captioner", "describer", "phrases", "detector", "masks"]
DESCRIBING: tuple[HubRole, ...] = ("captioner", "describer")

_CAPTION = "Describe this image in detail."
_DESCRIBE = (
    "This is a crop of an image that shows {phrase}. Describe {phrase} in one or two sentences: "
    "its colours, texture, shape and what can be seen of it. Name nothing else."
)
_PHRASES = (
    "Extract the entities that the caption names as visible objects, in the caption's own words with their "
    "adjectives. Leave out abstract things, places and the background. Answer with a JSON list only, such as "
    '[{"phrase": "a red apple", "head": "apple"}].\nCaption: {caption}'
)
_CHAT = {"captioner": (_CAPTION,), "describer": (_DESCRIBE,)}


@dataclass(frozen=True)
class Family:
    """What belongs to a family.

    ``classes`` maps ``model_type`` of config.json to the transformers class; empty means any causal language model.
    ``prompts`` are the defaults by role. ``uses_chat`` says that the checkpoint's chat template wraps the prompt.
    """

    classes: Mapping[str, str]
    prompts: Mapping[str, tuple[str, ...]]
    uses_chat: bool = False
    reads_images: bool = True
    needs: tuple[str, ...] = field(default=())

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that a model of this family can take."""
        return tuple(self.prompts)


FAMILIES: dict[str, Family] = {
    "smolvlm": Family(
        {"smolvlm": "SmolVLMForConditionalGeneration", "idefics3": "Idefics3ForConditionalGeneration"},
        _CHAT,
        uses_chat=True,
    ),
    "qwen2_vl": Family({"qwen2_vl": "Qwen2VLForConditionalGeneration"}, _CHAT, uses_chat=True),
    "qwen2_5_vl": Family({"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}, _CHAT, uses_chat=True),
    "llava": Family({"llava": "LlavaForConditionalGeneration"}, _CHAT, uses_chat=True),
    # An empty prompt is BLIP-2's own way of captioning; the question is the form it was tuned on (paper, section 4.1).
    "blip2": Family(
        {"blip-2": "Blip2ForConditionalGeneration"},
        {
            "captioner": ("", "a photo of"),
            "describer": ("Question: what does {phrase} look like? Answer:",),
        },
    ),
    # Florence-2 knows tasks, not instructions: a phrase cannot be part of them, so the crop alone is described.
    "florence2": Family(
        {"florence2": "Florence2ForConditionalGeneration"},
        {
            "captioner": ("<MORE_DETAILED_CAPTION>", "<DETAILED_CAPTION>"),
            "describer": ("<DETAILED_CAPTION>",),
            "detector": ("<CAPTION_TO_PHRASE_GROUNDING>",),
        },
    ),
    "grounding_dino": Family(
        {"grounding-dino": "GroundingDinoForObjectDetection"}, {"detector": ("{phrase}",)}
    ),
    "owlv2": Family({"owlv2": "Owlv2ForObjectDetection"}, {"detector": ("a photo of {phrase}",)}),
    "llm": Family({}, {"phrases": (_PHRASES,)}, uses_chat=True, reads_images=False),
    "sam": Family({"sam": "SamModel"}, {"masks": ("",)}),
    # The published SAM 2 checkpoints call themselves sam2_video; Sam2Model is their part for single images.
    "sam2": Family({"sam2": "Sam2Model", "sam2_video": "Sam2Model"}, {"masks": ("",)}),
}


def check_role(family: str, role: str) -> Family:
    """The family, where it can take the role. Raises FoundryError with the families that can."""
    if family not in FAMILIES:
        raise FoundryError(f"'family' is '{family}', which is not known; {nearest(family, list(FAMILIES))}")
    found = FAMILIES[family]
    if role not in found.roles:
        able = ", ".join(sorted(name for name, other in FAMILIES.items() if role in other.roles))
        raise FoundryError(
            f"role '{role}': a model of family '{family}' cannot take it (its roles: {', '.join(found.roles)}). "
            f"Families that can: {able or 'none'}."
        )
    return found
