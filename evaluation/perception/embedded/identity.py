"""Who perception is: the name and the digest written into rows, told without loading any model.

Everything that changes what is perceived is here or is an argument; what lives elsewhere (the thresholds of the
region search) is covered by :data:`PERCEPTION_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.perception.ocr.identity import RAPID_SHA256
from training.digests import canonical_json, sha256_bytes
from training.packaged_models import MINILM_FILES

PERCEPTION_VERSION = 6  # raise when results change
BANK_OF = {"twemoji": "the same drawings", "fluent": "Fluent drawings"}
"""Where a concept bank's pictures are from, in words, by art set: the demo's scenes are drawn from Twemoji."""

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA256 = MINILM_FILES["model.safetensors"]

BANK_SIDE_PX = 128  # four crops at 128 cost less than two at the network's own 224, and name as well
MAX_CROPS = 4
MIN_CONSE_PROBABILITY = 0.3
# Chosen on scenes of training concepts: 98.7 % of the regions found get a name, 99.9 % of those the right one; of concepts
# that the bank lacks 13 % get the name of another. At 0.5 it is 90 %, 100 % and 8 %.
MIN_BANK_PROBABILITY = 0.2


def model_name(art: str = "twemoji", *, closed_set: bool = False) -> str:
    """Name written into rows; it says whether the bank shares its drawings with the scenes."""
    names = "closest of the bank" if closed_set else "ConSE"
    return f"embedded: regions + EfficientNet-Lite0 (bank of {BANK_OF[art]}) + {names} + PP-OCRv6"


def bank_inputs_digest(
    pictures: Mapping[str, bytes], vocabulary: Sequence[str], side_px: int = BANK_SIDE_PX
) -> str:
    """sha256 over what a bank is made of: encoded pictures by concept, words, resolution and models."""
    return sha256_bytes(
        canonical_json(
            {
                "pictures": {name: sha256_bytes(data) for name, data in pictures.items()},
                "vocabulary": list(dict.fromkeys(vocabulary)),
                "side_px": side_px,
                "lite0": LITE0_SHA256,
                "minilm": MINILM_SHA256,
                "version": PERCEPTION_VERSION,
            }
        ).encode()
    )


def digest_with_bank(
    inputs_digest: str, max_crops: int = MAX_CROPS, *, closed_set: bool = False, known_drawings: bool = True
) -> str:
    """sha256 of perception with a bank that is known by its :func:`bank_inputs_digest`."""
    return sha256_bytes(
        canonical_json(
            {
                "bank": inputs_digest,
                "ocr": dict(RAPID_SHA256),
                "max_crops": max_crops,
                "min_bank_probability": 0.0 if closed_set else MIN_BANK_PROBABILITY,
                "min_conse_probability": MIN_CONSE_PROBABILITY,
                "version": PERCEPTION_VERSION,
                **({} if known_drawings else {"known_drawings": False}),
            }
        ).encode()
    )
