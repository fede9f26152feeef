"""Options of the contrastive objective."""

from __future__ import annotations

from pydantic import Field, field_validator

from training.recipes.section import Section


class ContrastiveOptions(Section):
    """Options of the image-text contrastive objective (open_clip)."""

    embed_dim: int = Field(default=128, ge=8, le=2048)
    image_layers: tuple[int, ...] = Field(
        default=(1, 1, 1, 1), description="four numbers: blocks of a ResNet's stages; one: depth of a ViT"
    )
    image_width: int = Field(default=16, ge=8, le=2048)
    image_head_width: int = Field(default=32, ge=8, le=256)
    image_patch: int = Field(default=8, ge=1, le=64, description="patch side in pixels, ViT only")
    text_width: int = Field(default=128, ge=16, le=2048)
    text_layers: int = Field(default=2, ge=1, le=48)
    text_heads: int = Field(default=4, ge=1, le=64)
    max_tokens: int = Field(
        default=20, ge=4, le=256, description="words kept of a caption, end token included"
    )
    shift_pixels: int = Field(default=4, ge=0, le=64, description="random shift of each picture, 0 for none")
    flip: bool = Field(default=False, description="mirror half of the pictures whose caption allows it")
    no_flip_words: tuple[str, ...] = Field(
        default=("left", "right", "says"), description="captions not to mirror"
    )

    @field_validator("image_layers")
    @classmethod
    def _known_shape(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        if len(layers) not in (1, 4) or min(layers) < 1:
            raise ValueError("give four positive numbers for a ResNet or one for a ViT")
        return layers
