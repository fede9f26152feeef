"""Text encoders: token states with lengths for conditioning, pooled vectors beside them; one interface for all.

:func:`build_encoder` makes one from :class:`training.recipes.text_encoder.EncoderSettings`.
"""

from training.text_encoders.encoding import EncodedTexts, TextEncoder, TokenStates, build_encoder
from training.text_encoders.minilm import MiniLMEncoder

__all__ = ["EncodedTexts", "MiniLMEncoder", "TextEncoder", "TokenStates", "build_encoder"]
