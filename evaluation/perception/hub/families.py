"""The model families that perception can load, one row each: their classes, roles and prompts. Light: no torch.

A new family is a row here and, where none of the workers fits, a module with a worker of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.errors import FoundryError
from training.recipes.validation import nearest

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
_HUB = "evaluation.perception.hub"


@dataclass(frozen=True)
class FamilyRole:
    """How a family takes a role.

    ``worker`` is "module:function", called with (:class:`evaluation.perception.hub.loading.Loaded`,
    :class:`evaluation.perception.hub.settings.HubModel`, :class:`evaluation.perception.hub.rows.Maker`); it gives the
    batch function. ``prompts`` are the family's own.
    """

    worker: str
    prompts: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Family:
    """What belongs to a family.

    Args:
        roles: the roles that a model of the family can take.
        classes: ``model_type`` of config.json -> the transformers class; empty for any ``model_type``.
        any_class: the class where ``classes`` is empty.
        processor: the transformers class that prepares inputs.
        uses_chat: whether the checkpoint's chat template wraps the prompt.
        reads_images: whether it is asked about images; else about text alone.
        reads_text: whether it is asked with words; else with images and boxes alone, and prompts and decoding
            change nothing.
        generates: whether it answers in words; else decoding changes nothing.
        settings: fields of :class:`evaluation.perception.hub.settings.HubModel` that change answers in families that
            list them, and in no other.
        refused: ``model_type`` of kindred checkpoints that cannot be loaded -> why, and what to use instead.
    """

    roles: Mapping[str, FamilyRole]
    classes: Mapping[str, str]
    any_class: str = ""
    processor: str = "AutoProcessor"
    uses_chat: bool = False
    reads_images: bool = True
    reads_text: bool = True
    generates: bool = True
    settings: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def ignored_settings(self) -> frozenset[str]:
        """Settings that change nothing, whatever the role."""
        decoding = () if self.generates and self.reads_text else ("decoding",)
        prompts = () if self.reads_text else ("prompts",)
        return frozenset((*decoding, *prompts, *(() if self.reads_images else ("max_image_side",))))

    def class_of(self, model_type: str) -> str:
        """Name of the transformers class of a checkpoint."""
        return self.classes[model_type] if self.classes else self.any_class


_CAPTIONER, _DESCRIBER = f"{_HUB}.captioning:HubCaptioner", f"{_HUB}.captioning:HubDescriber"
_ANSWERER = f"{_HUB}.answering:HubAnswerer"
_CHAT = {
    "captioner": FamilyRole(_CAPTIONER, (_CAPTION,)),
    "describer": FamilyRole(_DESCRIBER, (_DESCRIBE,)),
    "answers": FamilyRole(_ANSWERER, ("{question}",)),
}
_MASKS = {"masks": FamilyRole(f"{_HUB}.masking:HubMasker")}

FAMILIES: dict[str, Family] = {
    "smolvlm": Family(
        _CHAT,
        {"smolvlm": "SmolVLMForConditionalGeneration", "idefics3": "Idefics3ForConditionalGeneration"},
        uses_chat=True,
    ),
    "qwen2_vl": Family(_CHAT, {"qwen2_vl": "Qwen2VLForConditionalGeneration"}, uses_chat=True),
    "qwen2_5_vl": Family(_CHAT, {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}, uses_chat=True),
    "llava": Family(_CHAT, {"llava": "LlavaForConditionalGeneration"}, uses_chat=True),
    # An empty prompt is BLIP-2's own way of captioning; the question is the form it was tuned on (paper, section 4.1).
    "blip2": Family(
        {
            "captioner": FamilyRole(_CAPTIONER, ("", "a photo of")),
            "describer": FamilyRole(_DESCRIBER, ("Question: what does {phrase} look like? Answer:",)),
            "answers": FamilyRole(_ANSWERER, ("Question: {question} Answer:",)),
        },
        {"blip-2": "Blip2ForConditionalGeneration"},
    ),
    # Florence-2 knows tasks, not instructions: a phrase cannot be part of them, so the crop alone is described.
    "florence2": Family(
        {
            "captioner": FamilyRole(_CAPTIONER, ("<MORE_DETAILED_CAPTION>", "<DETAILED_CAPTION>")),
            "describer": FamilyRole(_DESCRIBER, ("<DETAILED_CAPTION>",)),
            "detector": FamilyRole(f"{_HUB}.florence:florence_detector", ("<CAPTION_TO_PHRASE_GROUNDING>",)),
        },
        {"florence2": "Florence2ForConditionalGeneration"},
    ),
    "grounding_dino": Family(
        {"detector": FamilyRole(f"{_HUB}.grounding_dino:grounding_dino_detector", ("{phrase}",))},
        {"grounding-dino": "GroundingDinoForObjectDetection"},
        generates=False,
        settings=("text_threshold",),
    ),
    "owlv2": Family(
        {"detector": FamilyRole(f"{_HUB}.owlv2:owlv2_detector", ("a photo of {phrase}",))},
        {"owlv2": "Owlv2ForObjectDetection"},
        generates=False,
    ),
    "llm": Family(
        {"phrases": FamilyRole(f"{_HUB}.phrases:HubPhraseFinder", (_PHRASES,))},
        {},
        any_class="AutoModelForCausalLM",
        processor="AutoTokenizer",
        uses_chat=True,
        reads_images=False,
    ),
    "sam": Family(_MASKS, {"sam": "SamModel"}, reads_text=False, generates=False),
    # The published SAM 2 checkpoints call themselves sam2_video; Sam2Model is their part for single images.
    "sam2": Family(
        _MASKS, {"sam2": "Sam2Model", "sam2_video": "Sam2Model"}, reads_text=False, generates=False
    ),
    "minicpm_v": Family(
        _CHAT,
        {
            "minicpmv4_6": "MiniCPMV4_6ForConditionalGeneration",
            "minicpmv4_7": "MiniCPMV4_7ForConditionalGeneration",
        },
        uses_chat=True,
        refused={
            "minicpmv": "MiniCPM-V up to 4.5 (LayoutSAM-Eval's own judge is 2.6) has no class in transformers and would "
            "have to run code out of its folder, which is never done. Use MiniCPM-V-4.6 or 4.7, or Qwen2.5-VL "
            "(family 'qwen2_5_vl'), and name the judge beside its scores: they do not compare across judges."
        },
    ),
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
