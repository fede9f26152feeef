"""Bytes as tokens: letters can be told apart by value and place, wherever the text is encoded."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings, encoder_digest, encoder_name, encoder_widths
from training.recipes.validation import validate
from training.text_encoders import build_encoder
from training.text_encoders.byte_codes import byte_codes, places_in_words

BYTES = EncoderSettings(family="bytes", max_tokens=40)


def test_every_byte_is_a_token_with_its_place_counted_from_the_middle_of_its_word() -> None:
    places, numbers = places_in_words('a "STOP"')
    assert np.array_equal(places, [0, np.nan, np.nan, -1.5, -0.5, 0.5, 1.5, np.nan], equal_nan=True)
    assert numbers.tolist() == [0, 1, 1, 1, 1, 1, 1, 2]
    two_bytes, _ = places_in_words("é")
    assert two_bytes.tolist() == [-0.5, 0.5]


def test_states_say_which_byte_and_where_and_the_empty_text_is_one_token() -> None:
    encoder = build_encoder(BYTES)
    first, second, empty = encoder.encode(["STOP", "POST", ""]).split()
    assert first.shape == (4, 128)
    code = slice(0, 64)
    assert np.array_equal(first[0, code], byte_codes()[ord("S")])
    assert np.array_equal(first[0, code], second[2, code])  # the same letter
    assert not np.array_equal(first[0], second[2])  # at another place
    assert np.array_equal(first[0, 64:], second[0, 64:])  # another letter at the same place
    assert empty.shape == (1, 128)


def test_no_two_bytes_look_alike_and_codes_are_the_same_everywhere() -> None:
    codes = byte_codes()
    likeness = codes @ codes.T / codes.shape[1] - np.eye(256)
    assert np.abs(likeness).max() < 0.65
    assert hashlib.sha256(codes.astype(np.int8).tobytes()).hexdigest().startswith(GOLDEN)


GOLDEN = "3e201f444fa78ec5"


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4))
def test_any_text_has_a_token_a_byte_up_to_the_limit(texts: list[str]) -> None:
    encoder = build_encoder(BYTES)
    encoded = encoder.encode(texts)
    wanted = [min(max(len(text.encode()), 1), 40) for text in texts]
    assert encoded.lengths.tolist() == wanted == encoder.lengths(texts).tolist()
    assert np.isfinite(encoded.states).all()
    assert not encoded.pooled.any()
    assert encoder.full(texts) == [text for text in texts if len(text.encode()) > 40]


def test_prompts_are_padded_to_the_limit_and_batches_change_nothing() -> None:
    encoder = build_encoder(BYTES)
    told = encoder.prompts(["a red sign", "b"])
    assert told.states.shape == (2, 40, 128)
    assert told.pooled is not None
    assert told.pooled.shape == (2, 16)
    assert torch.equal(encoder.prompts(["b"]).states[0], told.states[1])


def test_it_is_recorded_like_any_encoder() -> None:
    assert encoder_name(BYTES) == "bytes"
    assert encoder_widths(BYTES) == (128, 16)
    assert (
        build_encoder(BYTES).digest
        == encoder_digest(BYTES)
        != encoder_digest(EncoderSettings(family="bytes"))
    )
    with pytest.raises(FoundryError, match="takes no 'path', it needs no files"):
        validate(EncoderSettings, {"family": "bytes", "path": "x"}, "text_encoder")
    with pytest.raises(FoundryError, match="keep_padding"):
        validate(EncoderSettings, {"family": "bytes", "keep_padding": True}, "text_encoder")
