"""The roles of perception, one row each: what a model is asked for, what it reads and answers, and what fills it.

The profile's fields, the checks of a profile and the settings of hub models follow from these rows. A new role is a row
here, its name in :data:`Role`, and its answers in :mod:`evaluation.tables.perception`. Light: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from evaluation.tables.perception import (
    ANSWERS,
    BOXES,
    CAPTIONS,
    DESCRIPTIONS,
    MASKS,
    NOUNS,
    PHRASES,
    READINGS,
    REGIONS,
    TOXICITY,
)

Role = Literal[
    "regions", "closed_set", "captioner", "describer", "nouns", "phrases", "detector", "masks", "answers", "ocr",
    "toxicity",
]  # fmt: skip
"""The names of :data:`ROLES`, for the type checker."""


@dataclass(frozen=True)
class HubPart:
    """How a model by path or hub id is asked in a role, whatever its family.

    Args:
        settings: fields of :class:`evaluation.perception.hub.settings.HubModel` that change answers in this role, but
            not in those that do not list them.
        several: whether there may be several prompts, and several candidates to each.
        prompt_holds: what a prompt must hold, such as "{caption}".
        is_greedy: whether it decodes greedily only.
    """

    settings: tuple[str, ...] = ()
    several: bool = False
    prompt_holds: str = ""
    is_greedy: bool = False


@dataclass(frozen=True)
class PerceptionRole:
    """One role.

    Args:
        name: as it stands in provenance, and in the profile unless several models may fill it.
        about: what fills it does, in words, for the profile.
        reads: columns of a worker's rows. ``image`` is encoded bytes, ``phrases`` a list of strings, ``regions`` a list
            of structs with the columns of REGIONS but for sample_id; of ``image`` and ``regions`` a worker gets those
            that its model reads.
        answers: schema of a worker's answers, each row with the first of the columns that it read.
        embedded: "module:function" that makes the embedded model of
            (:class:`evaluation.perception.embedded.settings.EmbeddedSettings`,
            :class:`evaluation.perception.role_models.Workplace`); None where there is none.
        hub: how models by path or hub id are asked; None where they cannot fill the role. Which families can stands in
            :mod:`evaluation.perception.hub.families`.
        default: the model that fills it in a profile which names none.
        may_be_empty: whether a profile may leave it empty.
        allows_several: whether a profile names several models, the first of which is the one that counts.
    """

    name: str
    about: str
    reads: tuple[str, ...]
    answers: pa.Schema
    embedded: str | None
    hub: HubPart | None = None
    default: str | None = "embedded"
    may_be_empty: bool = False
    allows_several: bool = False

    @property
    def key(self) -> str:
        """Name of the profile's field."""
        return f"{self.name}s" if self.allows_several else self.name


_MODELS, _BANK_MODEL = "evaluation.perception.embedded.models", "evaluation.perception.embedded.bank_model"
_IMAGE, _LOOK, _ENTITY = ("sample_id", "image"), ("image", "regions"), ("entity_id", "box_xyxy_norm")

_ROWS = (
    PerceptionRole(
        "regions",
        "what looks at images for the embedded roles; null where none is embedded",
        reads=_IMAGE,
        answers=REGIONS,
        embedded=f"{_BANK_MODEL}:regions",
        may_be_empty=True,
    ),
    PerceptionRole(
        "closed_set",
        "names each region of a generated picture by the closest concept; null for none, and no teacher is scored",
        reads=_IMAGE,
        answers=REGIONS,
        embedded=f"{_BANK_MODEL}:closed_set",
        may_be_empty=True,
    ),
    PerceptionRole(
        "captioner",
        "writes captions of whole images; null where alt-texts say all that models are to be told",
        reads=("sample_id", *_LOOK),
        answers=CAPTIONS,
        embedded=f"{_MODELS}:captioner",
        hub=HubPart(("num_candidates", "seed"), several=True),
        may_be_empty=True,
    ),
    PerceptionRole(
        "describer",
        "describes the region in a box; null where nothing is annotated",
        reads=(*_ENTITY, "phrase", *_LOOK),
        answers=DESCRIPTIONS,
        embedded=f"{_MODELS}:describer",
        hub=HubPart(("num_candidates", "seed", "crop_margin")),
        may_be_empty=True,
    ),
    PerceptionRole(
        "nouns",
        "finds the nouns of captions",
        reads=("text_id", "text"),
        answers=NOUNS,
        embedded=f"{_MODELS}:nouns",
    ),
    PerceptionRole(
        "phrases",
        "finds what a caption names; null where nothing is annotated",
        reads=("sample_id", "caption"),
        answers=PHRASES,
        embedded=f"{_MODELS}:phrases",
        hub=HubPart(prompt_holds="{caption}", is_greedy=True),
        may_be_empty=True,
    ),
    PerceptionRole(
        "detector",
        "find boxes; the first annotates, the others are compared; [] where nothing is annotated",
        reads=("sample_id", "phrases", *_LOOK),
        answers=BOXES,
        embedded=f"{_MODELS}:detector",
        hub=HubPart(("box_threshold", "max_boxes"), is_greedy=True),
        may_be_empty=True,
        allows_several=True,
    ),
    PerceptionRole(
        "masks",
        "draws masks; null for none",
        reads=(*_ENTITY, *_LOOK),
        answers=MASKS,
        embedded=f"{_MODELS}:masks",
        hub=HubPart(),
        may_be_empty=True,
    ),
    PerceptionRole(
        "answers",
        "answers questions about what a picture shows in a box; null for none",
        reads=("question_id", "question", "box_xyxy_norm", "image"),
        answers=ANSWERS,
        embedded="evaluation.perception.embedded.answer_model:answers",
        hub=HubPart(prompt_holds="{question}", is_greedy=True),
        may_be_empty=True,
    ),
    PerceptionRole(
        "ocr",
        "reads the words of generated pictures: embedded is rapidocr; null for none",
        reads=_IMAGE,
        answers=READINGS,
        embedded="evaluation.perception.ocr.model:embedded_ocr",
        may_be_empty=True,
    ),
    PerceptionRole(
        "toxicity",
        "says how toxic a text is that was read in a picture: embedded is a list of words; null for none",
        reads=("text_id", "text"),
        answers=TOXICITY,
        embedded="evaluation.perception.toxicity.model:embedded_toxicity",
        may_be_empty=True,
    ),
)
ROLES: dict[str, PerceptionRole] = {row.name: row for row in _ROWS}
