"""Annotated images for tests: strange texts, several captions, masks, an image without entities."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from assets.entities.formats.records import AnnotatedCaption, AnnotatedEntity, AnnotatedImage
from evaluation.perception.run_lengths import encode_mask

STRANGE = 'it\'s "quoted" \\ a/b, [x] {y} ünï 漢字 😀\nnew line'


def image_bytes(width: int = 48, height: int = 32, seed: int = 0) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def records(count: int = 5) -> list[AnnotatedImage]:
    """Images of 48 x 32 pixels; boxes lie on a grid of a hundredth of a pixel, so that every format holds them."""
    made = []
    for number in range(count):
        mask = np.zeros((32, 48), dtype=bool)
        mask[4:20, 6:30] = True
        entities = (
            AnnotatedEntity("red apple", f"a round apple, {STRANGE}", (0.125, 0.125, 0.625, 0.625), 0.5, 0.75,
                            encode_mask(mask), (32, 48)),
            AnnotatedEntity(STRANGE, "second", (0.0, 0.0, 1.0, 1.0)),
        )  # fmt: skip
        made.append(
            AnnotatedImage(
                sample_id=f"{number:02d}f{'0' * 60}",
                image=image_bytes(seed=number),
                width=48,
                height=32,
                file_name=f"{number:02d}f{'0' * 60}.png",
                captions=(
                    AnnotatedCaption(f"caption {number} {STRANGE}", "captioner", 0.25),
                    AnnotatedCaption("alt"),
                ),
                entities=entities if number != 1 else (),
                license="CC-BY-4.0",
                attribution=STRANGE,
                source="scenes",
                split="train",
            )
        )
    return made
