"""Each family gives what its own library gives one text at a time, whatever the batch, and is known by its digest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.training.text_encoders import checkpoints
from tests.training.text_encoders.checkpoints import TEXTS, TOKENS
from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings, encoder_digest, encoder_name, encoder_widths
from training.recipes.validation import validate
from training.text_encoders import TextEncoder, build_encoder


def check_close(found: Any, expected: Any, tolerance: float = 2e-3) -> None:
    """Equal as far as float16 can tell."""
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    torch.set_num_threads(1)
    return {
        "clip": checkpoints.clip(root / "clip"),
        "clip_l": checkpoints.clip(root / "clip_l", projection=False),
        "big_g": checkpoints.clip(root / "big_g", width=48, seed=8),
        "t5": checkpoints.t5(root / "t5"),
        "open_clip": checkpoints.open_clip(root / "open_clip"),
    }


def settings_of(folders: dict[str, Path], name: str, **more: Any) -> EncoderSettings:
    family = "clip" if name in ("clip_l", "big_g") else name
    values = {"family": family, "path": str(folders[name]), "max_tokens": TOKENS, **more}
    return validate(EncoderSettings, values, "text_encoder")


def joined(folders: dict[str, Path], kind: str) -> EncoderSettings:
    """The pairs of the large models: SDXL's CLIPs side by side, FLUX.1's T5 with CLIP-L's pooled, SD3's three."""
    clip_l = settings_of(folders, "clip_l", layer="penultimate")
    big_g = settings_of(folders, "big_g", layer="penultimate", pooled="projected")
    t5 = settings_of(folders, "t5")
    if kind == "sdxl":
        return EncoderSettings(family="joined", parts=(clip_l, big_g), pooled_from=(1,))
    if kind == "flux":
        return EncoderSettings(family="joined", parts=(clip_l, t5), states_from=(1,), pooled_from=(0,))
    pair = EncoderSettings(family="joined", parts=(clip_l, big_g))
    return EncoderSettings(family="joined", parts=(pair, t5), join="tokens", pooled_from=(0,))


def everything(folders: dict[str, Path]) -> dict[str, EncoderSettings]:
    return {
        "clip": settings_of(folders, "clip", pooled="projected"),
        "clip_l": settings_of(folders, "clip_l", layer="penultimate_normalized"),
        "clip_padded": settings_of(folders, "clip", keep_padding=True),
        "t5": settings_of(folders, "t5"),
        "t5_padded": settings_of(folders, "t5", keep_padding=True),
        "open_clip": settings_of(folders, "open_clip", layer="penultimate"),
        **{kind: joined(folders, kind) for kind in ("sdxl", "flux", "sd3")},
    }


NAMES = ["clip", "clip_l", "clip_padded", "t5", "t5_padded", "open_clip", "sdxl", "flux", "sd3"]


@pytest.mark.parametrize("name", NAMES)
def test_batches_do_not_matter_and_widths_are_told(folders: dict[str, Path], name: str) -> None:
    settings = everything(folders)[name]
    encoder = build_encoder(settings)
    together = encoder.encode(TEXTS, batch_size=4)
    alone = [encoder.encode([text]) for text in TEXTS]
    for index, (states, one) in enumerate(zip(together.split(), alone, strict=True)):
        check_close(states, one.states)
        check_close(together.pooled[index], one.pooled[0])
    assert together.states.dtype == together.pooled.dtype == np.float16
    assert (together.states.shape[1], together.pooled.shape[1]) == tuple(encoder_widths(settings))
    assert together.lengths.max() <= encoder.max_tokens == settings.total_tokens
    assert np.array_equal(encoder.lengths(TEXTS), together.lengths)
    assert np.std(together.states.astype(np.float32)) > 0.05
    assert np.abs(alone[0].pooled - alone[2].pooled).max() > 0.02  # texts are told apart
    prompts = encoder.prompts(["cat"])
    assert prompts.null is not None
    assert prompts.null.pooled is not None
    assert prompts.states.shape == prompts.null.states.shape == (1, encoder.max_tokens, encoder.dim)
    check_close(prompts.null.pooled[0].numpy(), encoder.encode([""]).pooled[0])


def truth(folder: Path, text: str, **tokens: Any) -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    kind = (
        transformers.CLIPTextModelWithProjection if "t5" not in folder.name else transformers.T5EncoderModel
    )
    model = kind.from_pretrained(folder).eval()
    given = tokenizer([text], truncation=True, max_length=TOKENS, return_tensors="pt", **tokens)
    with torch.no_grad():
        return model(input_ids=given["input_ids"], output_hidden_states=True), model


@pytest.mark.parametrize("text", TEXTS)
def test_clip_equals_transformers(folders: dict[str, Path], text: str) -> None:
    output, model = truth(folders["clip"], text)
    layers = {
        "last": output.last_hidden_state,
        "penultimate": output.hidden_states[-2],
        "penultimate_normalized": model.text_model.final_layer_norm(output.hidden_states[-2]),
    }
    for layer, expected in layers.items():
        encoder = build_encoder(settings_of(folders, "clip", layer=layer, pooled="projected"))
        found = encoder.encode([text])
        check_close(found.states, expected[0].detach())
        check_close(found.pooled[0], output.text_embeds[0])
    plain = transformers.CLIPTextModel.from_pretrained(folders["clip_l"]).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folders["clip_l"])(
        [text], truncation=True, max_length=TOKENS, return_tensors="pt"
    )
    expected = plain(input_ids=tokens["input_ids"]).pooler_output[0].detach()
    found = build_encoder(settings_of(folders, "clip_l")).encode([text])
    check_close(found.pooled[0], expected)


@pytest.mark.parametrize("name", ["clip", "t5"])
def test_padding_is_kept_as_stock_pipelines_do(folders: dict[str, Path], name: str) -> None:
    # pipelines of SDXL, SD3 and FLUX.1 pad to the full length and pass no mask
    output, _ = truth(folders[name], "cat", padding="max_length")
    found = build_encoder(settings_of(folders, name, keep_padding=True)).encode(["cat", TEXTS[0]])
    assert found.lengths.tolist() == [TOKENS, TOKENS]
    check_close(found.split()[0], output.last_hidden_state[0])


def test_t5_equals_transformers(folders: dict[str, Path]) -> None:
    for text in TEXTS:
        output, _ = truth(folders["t5"], text)
        found = build_encoder(settings_of(folders, "t5")).encode([text])
        check_close(found.states, output.last_hidden_state[0])
        mean = output.last_hidden_state[0].mean(0)
        check_close(found.pooled[0], mean / mean.norm())


def test_open_clip_equals_its_library(folders: dict[str, Path]) -> None:
    import open_clip

    model = open_clip.create_model(f"local-dir:{folders['open_clip']}").eval()
    tokens = open_clip.tokenizer.SimpleTokenizer(context_length=20)(TEXTS, context_length=TOKENS)
    whole = torch.zeros(len(TEXTS), 20, dtype=torch.long)
    whole[:, :TOKENS] = tokens
    with torch.no_grad():
        expected = model.encode_text(whole)
        _, before, last = model.forward_intermediates(text=whole, intermediates_only=True)[
            "text_intermediates"
        ]
    for layer, states in (("last", model.ln_final(last)), ("penultimate", before)):
        found = build_encoder(settings_of(folders, "open_clip", layer=layer)).encode(TEXTS)
        check_close(found.pooled, expected)
        for index, (rows, length) in enumerate(zip(found.split(), found.lengths, strict=True)):
            check_close(rows, states[index, :length].detach())


def parts_of(encoder: TextEncoder) -> list[Any]:
    return [part.encode(TEXTS) for part in encoder.parts]  # type: ignore[attr-defined]


def test_sdxl_is_two_clips_side_by_side(folders: dict[str, Path]) -> None:
    encoder = build_encoder(joined(folders, "sdxl"))
    found, (first, second) = encoder.encode(TEXTS), parts_of(encoder)
    check_close(found.states, np.concatenate([first.states, second.states], 1))
    check_close(found.pooled, second.pooled)


def test_flux_takes_states_of_one_and_pooled_of_the_other(folders: dict[str, Path]) -> None:
    encoder = build_encoder(joined(folders, "flux"))
    found, (first, second) = encoder.encode(TEXTS), parts_of(encoder)
    check_close(found.states, second.states)
    check_close(found.pooled, first.pooled)


def test_sd3_puts_one_after_the_other(folders: dict[str, Path]) -> None:
    encoder = build_encoder(joined(folders, "sd3"))
    found, (pair, t5) = encoder.encode(TEXTS), parts_of(encoder)
    assert np.array_equal(found.lengths, pair.lengths + t5.lengths)
    for rows, left, right in zip(found.split(), pair.split(), t5.split(), strict=True):
        check_close(rows[: len(left)], left)
        check_close(rows[len(left) :, :40], right)
        assert not rows[len(left) :, 40:].any()
    check_close(found.pooled, pair.pooled)


def test_digest_is_that_of_files_and_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    base = settings_of(folders, "clip")
    others = [
        settings_of(folders, "clip", layer="penultimate"),
        settings_of(folders, "clip", pooled="projected"),
        settings_of(folders, "clip", max_tokens=8),
        settings_of(folders, "clip", keep_padding=True),
        settings_of(folders, "clip", precision="bf16"),
        joined(folders, "sdxl"),
        joined(folders, "flux"),
        EncoderSettings(),
    ]
    digests = [encoder_digest(settings) for settings in (base, *others)]
    assert len(set(digests)) == len(digests)
    copy = tmp_path / "elsewhere"
    shutil.copytree(folders["clip"], copy)
    moved = base.model_copy(update={"path": str(copy)})
    assert encoder_digest(moved) == digests[0] == build_encoder(moved).digest  # the place does not count
    checkpoints.clip(copy, seed=9)
    assert encoder_digest(moved) != digests[0]


def test_a_pipeline_folder_has_its_tokenizer_beside(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = checkpoints.clip(tmp_path / "text_encoder_2", tokenizer=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["clip"])
    tokenizer.save_pretrained(tmp_path / "tokenizer_2")
    settings = settings_of(folders, "clip").model_copy(update={"path": str(folder)})
    expected = build_encoder(settings_of(folders, "clip")).encode(TEXTS)
    check_close(build_encoder(settings).encode(TEXTS).states, expected.states)
    assert encoder_name(settings) == "text_encoder_2"
    shutil.rmtree(tmp_path / "tokenizer_2")
    with pytest.raises(FoundryError, match="no tokenizer that transformers loads"):
        build_encoder(settings).encode(["x"])


def test_half_precision_is_near(folders: dict[str, Path]) -> None:
    full = build_encoder(settings_of(folders, "clip")).encode(TEXTS[:1])
    half = build_encoder(settings_of(folders, "clip", precision="bf16")).encode(TEXTS[:1])
    check_close(half.states, full.states, 0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "clipp"}, "'family' is 'clipp'"),
        ({"family": "clip"}, "family 'clip' needs 'path'"),
        ({"path": "x"}, "family 'minilm' takes no 'path'"),
        ({"family": "t5", "path": "x", "layer": "penultimate"}, "family 't5' has last"),
        ({"family": "t5", "path": "x", "pooled": "end"}, "family 't5' has mean"),
        ({"keep_padding": True}, "'minilm' is not"),
        ({"family": "joined", "parts": [{}]}, "two or more 'parts'"),
        ({"family": "joined", "parts": [{}, {}], "pooled_from": [2]}, "'pooled_from' names part 2"),
        ({"parts": [{}, {}]}, "'parts' belong to family 'joined'"),
        ({"max_token": 5}, "did you mean 'max_tokens'"),
    ],
)
def test_settings_that_cannot_be_are_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(FoundryError, match=message):
        validate(EncoderSettings, values, "text_encoder")


def _remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("name", "family", "break_it", "message"),
    [
        ("clip", "clip", _remove_weights, r"must be \*\.safetensors files"),
        ("clip", "clip", _remove_config, "no readable configuration"),
        ("t5", "clip", None, "model_type is 't5', but family 'clip' loads"),
    ],
)
def test_checkpoints_that_do_not_fit_are_told(
    folders: dict[str, Path],
    tmp_path: Path,
    name: str,
    family: str,
    break_it: Callable[[Path], None] | None,
    message: str,
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders[name], copy)
    if break_it:
        break_it(copy)
    settings = EncoderSettings(family=family, path=str(copy), max_tokens=8)
    with pytest.raises(FoundryError, match=message):
        build_encoder(settings)


def test_more_tokens_than_positions_and_lacking_projections(folders: dict[str, Path]) -> None:
    with pytest.raises(FoundryError, match="has positions for 20"):
        build_encoder(settings_of(folders, "clip", max_tokens=77))
    with pytest.raises(FoundryError, match="weights lack text_projection"):
        build_encoder(settings_of(folders, "clip_l", pooled="projected")).encode(["x"])
    with pytest.raises(FoundryError, match="no such folder"):
        encoder_digest(EncoderSettings(family="t5", path="./nowhere"))
