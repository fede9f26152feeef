"""Signs: one word on a coloured sign, with an alt-text that says both. What a model needs to learn to write, and no more.

Words are random strings of capitals, or of what else an alphabet names, so that letters have to be drawn and no word can be known
by heart. A tenth of all strings, told by their hash, are in no training picture: the split ``held_out_concepts`` shows them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from itertools import product
from string import ascii_uppercase
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field, model_validator

from assets.corpus.fonts import font_path
from assets.corpus.scene import Scene
from training.digests import sha256_bytes

FONT, FONT_SIZE_PX, ADVANCE_PX = "DejaVuSansMono-Bold", 20, 12
CAP_HEIGHT_PX = 15  # of capitals in that font at that size; a test measures it
_HELD_OUT_ONE_IN = 10
_WHITE = 247.0
_LICENSE, _ATTRIBUTION = "CC0-1.0", "Rendered by T2I Foundry in DejaVu Sans Mono"
ColorWord = Annotated[str, Field(pattern=r"^[a-z]+$")]


class SignWorld(BaseModel):
    """What signs look like. It names no concepts: nothing but words and colours is there to be recognised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["signs"]
    size_px: tuple[int, int] = Field((64, 32), description="width and height of a picture, multiples of 8")
    sign_height_px: int = Field(24, ge=CAP_HEIGHT_PX + 3, description="height of the sign in it")
    alphabet: str = Field(
        ascii_uppercase,
        pattern="^[A-Z0-9]{2,}$",
        description="capitals and digits of which words are made, each as frequent as the next",
    )
    letters: tuple[int, int] = Field((3, 5), description="fewest and most letters of a word")
    vertical_jitter_px: int = Field(3, ge=0, description="how far the sign lies above or below the middle")
    colors: dict[ColorWord, Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]] = Field(
        min_length=2, description="colour of the sign, word -> '#rrggbb'"
    )

    concepts: tuple[()] = ()
    held_out_concepts: tuple[()] = ()

    @property
    def all_concepts(self) -> tuple[()]:
        """None."""
        return ()

    @property
    def training_looks(self) -> tuple[()]:
        """None."""
        return ()

    @property
    def drawings(self) -> dict[str, str]:
        """None."""
        return {}

    @model_validator(mode="after")
    def _words_fit(self) -> SignWorld:
        width, height = self.size_px
        fewest, most = self.letters
        if width % 8 or height % 8:
            raise ValueError(f"size_px is {width} x {height}; both must be multiples of 8")
        if not 1 <= fewest <= most or most * ADVANCE_PX > width - 2:
            raise ValueError(
                f"letters are {fewest} to {most}; a sign {width} px wide has room for 1 to {(width - 2) // ADVANCE_PX}"
            )
        twice = next((letter for letter in self.alphabet if self.alphabet.count(letter) > 1), None)
        if twice is not None:
            raise ValueError(f"alphabet has '{twice}' more than once; name each letter once")
        if not all(_has_both_sides(self.alphabet, length) for length in range(fewest, most + 1)):
            raise ValueError(
                f"alphabet '{self.alphabet}' makes too few strings of {fewest} letters to hold any out; give it more"
            )
        if len(set(self.colors.values())) < len(self.colors):
            raise ValueError("colors: two words have the same colour; give each its own")
        if self.sign_height_px + 2 * self.vertical_jitter_px > height:
            raise ValueError(
                f"a sign {self.sign_height_px} px high that moves by {self.vertical_jitter_px} px leaves a picture {height} px "
                "high; make either smaller"
            )
        return self


def is_held_out(word: str) -> bool:
    """Whether a string is one of those that no training picture shows."""
    return int(sha256_bytes(word.encode())[:8], 16) % _HELD_OUT_ONE_IN == 0


def _has_both_sides(alphabet: str, length: int) -> bool:
    """Whether strings of so many letters are in training and held out; looks at few, for a tenth is held out."""
    found = set()
    for letters in product(alphabet, repeat=length):
        found.add(is_held_out("".join(letters)))
        if len(found) == 2:
            return True
    return False


def sign_text(color: str, word: str) -> str:
    """The alt-text of a sign, which is also its prompt."""
    return f'{"an" if color[0] in "aeiou" else "a"} {color} sign that says "{word}"'


def random_word(
    letters: tuple[int, int],
    random: np.random.Generator,
    *,
    held_out: bool,
    alphabet: str = ascii_uppercase,
) -> str:
    """A string of the alphabet's letters on the asked side of the split; lengths are equally frequent."""
    length = int(random.integers(letters[0], letters[1] + 1))
    while True:
        word = "".join(alphabet[number] for number in random.integers(0, len(alphabet), length))
        if is_held_out(word) == held_out:
            return word


def build_sign(world: SignWorld, split: str, index: int, seed: int) -> Scene:
    """Sign ``index`` of a split: draws of its own, whatever was built before."""
    random = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    word = random_word(world.letters, random, held_out=split == "held_out_concepts", alphabet=world.alphabet)
    color = str(random.choice(sorted(world.colors)))
    canvas, (left, top, right, bottom) = _draw(world, word, color, random)
    width, height = world.size_px
    return Scene(
        image=np.clip(np.rint(canvas), 0, 255).astype(np.uint8),
        alt_text=sign_text(color, word),
        objects=(),
        visible_masks_rle=(),
        mask_size=(height, width),
        word=word,
        word_box_xyxy_norm=(left / width, top / height, right / width, bottom / height),
        background=f"{color} sign",
        key=f"{split}-{seed}-{index:06d}",
        split=split,
        license=_LICENSE,
        attribution=_ATTRIBUTION,
    )


def build_signs(world: SignWorld, split: str, count: int, seed: int) -> Iterator[Scene]:
    """The first ``count`` signs of a split. Sign ``i`` is the same whatever the count."""
    for index in range(count):
        yield build_sign(world, split, index, seed)


def _draw(
    world: SignWorld, word: str, color: str, random: np.random.Generator
) -> tuple[Float[np.ndarray, "h w 3"], tuple[int, int, int, int]]:
    """The picture as float RGB, and the box of the word's ink in pixels."""
    width, height = world.size_px
    canvas = np.empty((height, width, 3))
    canvas[:] = random.uniform(140, 242, 3)
    jitter = world.vertical_jitter_px
    top = (height - world.sign_height_px) // 2 + int(random.integers(-jitter, jitter + 1))
    rgb = np.array([int(world.colors[color][place : place + 2], 16) for place in (1, 3, 5)], np.float64)
    canvas[top : top + world.sign_height_px, 1 : width - 1] = rgb + random.uniform(-10, 10, 3)
    ink = word_ink(word)
    first = top + (world.sign_height_px - CAP_HEIGHT_PX) // 2 + (int(random.integers(-1, 2)) if jitter else 0)
    left = (width - ADVANCE_PX * len(word)) // 2
    patch = canvas[first : first + ink.shape[0], left : left + ink.shape[1]]
    patch += (ink[..., None] / 255.0) * (_WHITE - patch)
    rows, columns = np.nonzero(ink >= 128)
    box = (left + columns.min(), first + rows.min(), left + columns.max() + 1, first + rows.max() + 1)
    return canvas, (int(box[0]), int(box[1]), int(box[2]), int(box[3]))


@cache
def _letter(letter: str) -> UInt8[np.ndarray, "cap advance"]:
    """A capital's or digit's ink as coverage in [0, 255]; the tails of J and Q below the line are cut."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_path(FONT)), FONT_SIZE_PX)
    image = Image.new("L", (ADVANCE_PX, CAP_HEIGHT_PX + 4), 0)
    ImageDraw.Draw(image).text((0, CAP_HEIGHT_PX), letter, fill=255, font=font, anchor="ls")
    return np.asarray(image)


def word_ink(word: str) -> UInt8[np.ndarray, "h w"]:
    """A word's ink, every letter as wide as the next."""
    return np.concatenate([_letter(letter) for letter in word], axis=1)
