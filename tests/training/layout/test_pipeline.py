"""The pipeline object draws what the sampler draws, comes back from disk, and lets a caller watch every step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor

from tests.training.layout.test_released import model_of, split
from tests.training.layout.tiny import base, placed, randomised, with_layout
from tests.training.text_encoders.checkpoints import clip, t5
from training.conditioning import Placed
from training.diffusion.noise_process import Noising
from training.errors import FoundryError
from training.layout.folders import grow_branch
from training.layout.pipeline import Encoded, LayoutPipeline, entities_of
from training.layout.released import load_released
from training.layout.shards import placed_of
from training.model_folders.autoencoders import build_autoencoder
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.export import export_pipeline
from training.recipes.autoencoder import AutoencoderOptions
from training.recipes.layout import LayoutOptions
from training.sampling.denoising_loop import Taken, generators_of, sample_latents
from training.sampling.layout import layout_window
from training.sampling.layout import with_layout as told_layout
from training.text_encoders import MiniLMEncoder

STEPS, GUIDANCE = 3, 2.0


def autoencoder(channels: int = 4) -> Any:
    options = AutoencoderOptions(block_channels=(8, 8), latent_channels=channels)
    return build_autoencoder(options, 16, seed=0).eval()


def piped(model: Any, **more: Any) -> LayoutPipeline:
    channels = model.config.in_channels // (4 if "Flux" in type(model).__name__ else 1)
    pipe = LayoutPipeline(autoencoder(channels), FlowMatchEulerDiscreteScheduler(), transformer=model, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encoded(count: int = 2, width: int = 12, pooled: int = 10) -> Encoded:
    torch.manual_seed(4)
    null = torch.randn(1, 5, width), torch.randn(1, pooled)
    return Encoded(torch.randn(count, 5, width), torch.randn(count, pooled), None, *null)


@pytest.fixture(scope="module")
def pipe() -> LayoutPipeline:
    return piped(randomised(with_layout(base(), "siam", box_aligned=True)))


@pytest.fixture(scope="module")
def layout(pipe: LayoutPipeline) -> Placed:
    return placed(pipe.backbone)


def drawn(pipe: LayoutPipeline, *args: Any, **more: Any) -> np.ndarray:
    settings = {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "np",
        "seeds": [1, 2],
    }
    images: np.ndarray = pipe(*args, **{**settings, **more}).images
    return images


def test_it_draws_what_every_other_sampling_draws(pipe: LayoutPipeline, layout: Placed) -> None:
    images = drawn(pipe, encoded=encoded(), layout=layout, layout_strength=0.7, layout_window=0.7)
    told = told_layout(encoded().condition(), layout, 0.7)
    denoiser = Denoiser(pipe.backbone, pipe.vae, Noising("flow"), scheduler=FlowMatchEulerDiscreteScheduler())
    wanted = sample_with(denoiser, told, [1, 2], STEPS, GUIDANCE, control=layout_window(0.7))
    assert np.array_equal((images * 255).round().astype(np.uint8), wanted)
    other = drawn(pipe, encoded=encoded(), layout=layout)
    assert not np.allclose(other, images, atol=1e-3)


def test_at_strength_0_it_is_the_stock_pipeline(pipe: LayoutPipeline, layout: Placed) -> None:
    stock = StableDiffusion3Pipeline(
        base(), FlowMatchEulerDiscreteScheduler(), autoencoder(), *[None] * 6, **{}
    )
    stock.vae.register_to_config(shift_factor=0.0)
    stock.set_progress_bar_config(disable=True)
    told = encoded()
    assert told.null_states is not None
    assert told.null_pooled is not None
    wanted = stock(
        prompt_embeds=told.states,
        pooled_prompt_embeds=told.pooled,
        negative_prompt_embeds=told.null_states.expand(2, -1, -1),
        negative_pooled_prompt_embeds=told.null_pooled.expand(2, -1),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=generators_of([1, 2]),
        height=16,
        width=16,
        output_type="np",
    ).images
    found = drawn(
        pipe, encoded=told, layout=layout, layout_strength=0.0, seeds=None, generator=generators_of([1, 2])
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_picture_is_the_same_alone_and_in_a_batch_of_mixed_layouts(
    pipe: LayoutPipeline, layout: Placed
) -> None:
    assert layout.there.sum(dim=1).tolist() == [1, 4]
    together = drawn(pipe, encoded=encoded(), layout=layout)
    for row in range(2):
        own = encoded()._replace(states=encoded().states[row : row + 1], pooled=_row(encoded().pooled, row))
        alone = drawn(pipe, encoded=own, layout=layout.each(partial(_row, row=row)), seeds=[row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def _row(tensor: Tensor | None, row: int) -> Tensor:
    assert tensor is not None
    return tensor[row : row + 1]


def test_copies_of_a_prompt_stand_side_by_side(pipe: LayoutPipeline, layout: Placed) -> None:
    four = drawn(pipe, encoded=encoded(), layout=layout, seeds=[1, 3, 2, 4], num_images_per_prompt=2)
    two = drawn(pipe, encoded=encoded(), layout=layout)
    np.testing.assert_allclose(four[::2], two, atol=1e-5)
    assert not np.allclose(four[0], four[1], atol=1e-3)


def test_one_generator_serves_all_pictures_as_in_stock_pipelines(
    pipe: LayoutPipeline, layout: Placed
) -> None:
    first = torch.Generator().manual_seed(3)
    images = drawn(pipe, encoded=encoded(), layout=layout, seeds=None, generator=first, output_type="latent")
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(3))
    seen: list[Tensor] = []

    def watch(_: int, taken: Taken) -> tuple[Tensor, bool]:
        seen.append(taken.scaled)
        return taken.latents, True

    denoiser = Denoiser(pipe.backbone, None, Noising("flow"), scheduler=FlowMatchEulerDiscreteScheduler())
    told, second = told_layout(encoded().condition(), layout), torch.Generator().manual_seed(3)
    with torch.no_grad():
        found = sample_latents(denoiser, told, [second] * 2, STEPS, GUIDANCE, after_step=watch)
    assert torch.equal(seen[0], noise)
    assert torch.equal(torch.as_tensor(images), found)


def test_a_callback_sees_every_step_and_may_exchange_its_latents(
    pipe: LayoutPipeline, layout: Placed
) -> None:
    seen: list[tuple[int, float, Tensor]] = []

    def watch(
        own: LayoutPipeline, step: int, timestep: Tensor, given: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        assert own is pipe
        seen.append((step, float(timestep), given["latents"]))
        return {"latents": given["latents"] * 0.5} if step == 1 else {}

    plain = drawn(pipe, encoded=encoded(), layout=layout, output_type="latent")
    changed = drawn(pipe, encoded=encoded(), layout=layout, output_type="latent", callback_on_step_end=watch)
    assert [step for step, _, _ in seen] == [0, 1, 2]
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    assert [time for _, time, _ in seen] == scheduler.timesteps.tolist()
    assert torch.equal(torch.as_tensor(changed), seen[-1][2])
    assert not torch.allclose(torch.as_tensor(changed), torch.as_tensor(plain), atol=1e-3)


def test_a_callback_may_end_the_sampling(pipe: LayoutPipeline, layout: Placed) -> None:
    seen: list[Tensor] = []

    def stop(own: LayoutPipeline, step: int, timestep: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(given["latents"])
        own._interrupt = step == 1
        return {}

    left = drawn(pipe, encoded=encoded(), layout=layout, output_type="latent", callback_on_step_end=stop)
    assert len(seen) == 2
    assert torch.equal(torch.as_tensor(left), seen[-1])
    ended = [pipe.interrupt]
    assert len(drawn(pipe, encoded=encoded(), layout=layout)) == 2
    assert [*ended, pipe.interrupt] == [True, False]

    def fail(*_: Any) -> dict[str, Tensor]:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        drawn(pipe, encoded=encoded(), layout=layout, callback_on_step_end=fail)


def test_it_comes_back_from_disk(pipe: LayoutPipeline, layout: Placed, tmp_path: Path) -> None:
    own = piped(pipe.backbone, text_encoding={"family": "minilm", "max_tokens": 16})
    own.save_pretrained(tmp_path)
    again = LayoutPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert again.config.text_encoding == {"family": "minilm", "max_tokens": 16}
    assert again.encoder.max_tokens == 16
    wanted = drawn(pipe, encoded=encoded(), layout=layout)
    assert np.array_equal(drawn(again, encoded=encoded(), layout=layout), wanted)


def test_a_published_model_folder_is_one(pipe: LayoutPipeline, layout: Placed, tmp_path: Path) -> None:
    autoencoder().save_pretrained(tmp_path / "vae")
    export_pipeline(tmp_path / "base", base(), tmp_path / "vae", Noising("flow"))
    model, parent = tmp_path / "model", tmp_path / "base"
    export_pipeline(model, pipe.backbone, tmp_path / "vae", Noising("flow"), parent=parent)
    own = LayoutPipeline.from_pretrained(model)
    own.set_progress_bar_config(disable=True)
    told = told_layout(encoded().condition(), layout)
    wanted = sample_with(Denoiser.load(model), told, [1, 2], STEPS, GUIDANCE)
    found = drawn(own, encoded=encoded(), layout=layout, output_type="pil")
    assert np.array_equal(np.stack([np.asarray(image) for image in found]), wanted)


def test_prompts_and_phrases_go_through_our_encoder() -> None:
    stock = base(joint_attention_dim=384, pooled_projection_dim=384)
    model = randomised(grow_branch(stock, LayoutOptions(max_boxes=3, phrase_dim=384))).eval()
    own = piped(model)
    phrases, boxes = [["a red car"], ["a tree", "a dog"]], [[[0.1, 0.1, 0.5, 0.5]], [[0, 0, 0.4, 0.4]] * 2]
    found = drawn(own, ["a car", "a dog"], phrases, boxes)
    encoder = MiniLMEncoder()
    told = told_layout(
        encoder.prompts(["a car", "a dog"]), placed_of(entities_of(phrases, boxes), encoder, 3, 1)
    )
    denoiser = Denoiser(model, own.vae, Noising("flow"), scheduler=FlowMatchEulerDiscreteScheduler())
    wanted = sample_with(denoiser, told, [1, 2], STEPS, GUIDANCE)
    assert np.array_equal((found * 255).round().astype(np.uint8), wanted)
    one = drawn(own, "a car", ["a red car"], [[0.1, 0.1, 0.4, 0.4]], box_format="xywh", seeds=[1])
    np.testing.assert_allclose(one[0], found[0], atol=1e-5)
    with pytest.raises(FoundryError, match="4 entities found, this model takes 3"):
        drawn(own, "a car", ["a car"] * 4, [[0.1, 0.1, 0.5, 0.5]] * 4, seeds=[1])


def test_the_three_encoders_of_sd3_encode_prompts_and_phrases(tmp_path: Path) -> None:
    parts = [
        {"family": "clip", "path": str(clip(tmp_path / f"clip{seed}", seed=seed)), "layer": "penultimate",
         "pooled": "projected", "max_tokens": 16, "keep_padding": True}
        for seed in (7, 8)
    ]  # fmt: skip
    third = {"family": "t5", "path": str(t5(tmp_path / "t5")), "max_tokens": 12, "keep_padding": True}
    settings = {
        "family": "joined",
        "parts": [{"family": "joined", "parts": parts}, third],
        "join": "tokens",
        "pooled_from": [0],
    }
    model = grow_branch(
        base(joint_attention_dim=64, pooled_projection_dim=48), LayoutOptions(max_boxes=3, phrase_dim=48)
    )
    own = piped(randomised(model).eval(), text_encoding=settings)
    boxes = [[[0.1, 0.1, 0.5, 0.5]], []]
    found = drawn(own, ["a car", "a dog"], [["a red car"], []], boxes)
    assert own.encoder.prompts(["a"]).states.shape == (1, 28, 64)
    assert not np.allclose(found, drawn(own, ["a car", "a dog"]), atol=1e-3)


def test_flux_takes_true_guidance_beside_the_one_it_embeds() -> None:
    model = randomised(with_layout(base("FLUX"), "siam"))
    own, told = piped(model), encoded(width=6)
    size: dict[str, Any] = {"height": 16, "width": 16, "encoded": told, "layout": placed(model)}
    plain, true = drawn(own, **size), drawn(own, **size, true_cfg_scale=3.0)
    assert plain.shape == (2, 16, 16, 3)
    assert not np.allclose(plain, true, atol=1e-3)


@pytest.mark.parametrize("name", ["sd3", "sd3_lora"])
def test_released_weights_are_drawn_with(name: str) -> None:
    weights, told = split(name)
    model = model_of(name)
    load_released(model, weights)
    layout = Placed(told["boxes"], told["phrases"][:, :, None], told["there"].bool())
    texts = Encoded(told["text"], told["pooled"], None, told["text"][:1] * 0, told["pooled"][:1] * 0)
    count = len(told["text"])
    own = piped(model)
    seeds = list(range(count))
    on, off = (drawn(own, encoded=texts, layout=layout, layout_strength=s, seeds=seeds) for s in (1.0, 0.0))
    assert len(on) == count
    assert not np.allclose(on, off, atol=1e-3)


def test_a_model_in_half_precision_is_given_what_it_computes_in(layout: Placed) -> None:
    model = randomised(with_layout(base(), "siam")).to(torch.bfloat16)
    own = piped(model)
    found = drawn(own, encoded=encoded(), layout=layout, output_type="latent")
    whole = drawn(piped(model.float()), encoded=encoded(), layout=layout, output_type="latent")
    assert torch.as_tensor(found).dtype is torch.float32
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(whole), atol=0.2, rtol=0.1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give either 'prompt' or 'encoded'"),
        ({"prompt": "a car"}, "384 wide, this model takes 12"),
        ({"encoded": True, "phrases": [["a"], ["b"]]}, "belong together"),
        ({"encoded": True, "layout": True, "boxes": []}, "leave out 'phrases' and 'boxes'"),
        ({"encoded": True, "phrases": [["a"]], "boxes": [[], []]}, "1 lists of phrases but 2 of boxes"),
        ({"encoded": True, "phrases": ["a", "b"], "boxes": [[], []]}, "give a list with one phrase a box"),
        ({"encoded": True, "seeds": [1]}, "1 seeds or generators for 2 pictures"),
        ({"encoded": True, "generator": torch.Generator()}, "give one of them"),
        ({"encoded": True, "height": 16}, "height is 16 and width None"),
        ({"encoded": True, "height": 17, "width": 16}, "multiples of 2"),
        ({"encoded": True, "layout": True, "layout_window": 2.0}, r"window is 2"),
        ({"encoded": True, "callback_on_step_end_tensor_inputs": ["noise"]}, "allowed are latents"),
    ],
)
def test_what_does_not_fit_is_told(
    pipe: LayoutPipeline, layout: Placed, given: dict[str, Any], says: str
) -> None:
    told = {"encoded": encoded(), "layout": layout}
    own = {name: told[name] if value is True else value for name, value in given.items()}
    with pytest.raises(FoundryError, match=says):
        drawn(pipe, **own)


def test_a_model_without_a_branch_is_refused() -> None:
    with pytest.raises(FoundryError, match="has no layout branch"):
        piped(base())
    with pytest.raises(FoundryError, match="either a transformer or a unet"):
        LayoutPipeline(autoencoder(), FlowMatchEulerDiscreteScheduler())


def test_latents_of_another_shape_are_refused(pipe: LayoutPipeline, layout: Placed) -> None:
    with pytest.raises(FoundryError, match="latents after a step are"):
        drawn(
            pipe, encoded=encoded(), layout=layout,
            callback_on_step_end=lambda *given: {"latents": given[3]["latents"][:1]},
        )  # fmt: skip
