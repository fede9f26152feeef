"""Layout models as a pipeline of diffusers: prompts, phrases and boxes in, pictures out.

Its steps are those of :mod:`training.sampling.denoising_loop`, so that it draws what every other sampling here draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float, Shaped
from torch import Tensor

from training.backbones import text_dim
from training.conditioning import Condition, Placed
from training.errors import FoundryError
from training.layout.boxes import box_xyxy_norm
from training.layout.entities import Entity
from training.layout.shards import placed_of
from training.model_folders.autoencoder_config import pixels_per_latent
from training.model_folders.denoiser import images_of
from training.recipes.layout import LayoutOptions
from training.recipes.text_encoder import EncoderSettings
from training.recipes.validation import validate
from training.sampling.denoising_loop import AfterStep, Seed, Taken, sample_latents
from training.sampling.layout import layout_window as window_of
from training.sampling.layout import with_layout
from training.text_encoders import TextEncoder, build_encoder

StepEnd = Callable[[Any, int, Tensor, dict[str, Any]], Mapping[str, Any] | None]
"""Called with pipeline, step from 0, timestep and the tensors asked for; what it gives back under ``latents`` is gone on from."""


@dataclass(frozen=True)
class _Model:
    """What the sampler needs of the pipeline."""

    backbone: Any
    device: torch.device
    pixels_per_latent: int
    scheduler: Any

    def fresh_scheduler(self) -> Any:
        """A scheduler without memory of earlier pictures."""
        return type(self.scheduler).from_config(self.scheduler.config)


class Encoded(NamedTuple):
    """Prompts that are encoded already, and what guidance extrapolates from, one row of it."""

    states: Float[Tensor, "b tokens dim"]
    pooled: Float[Tensor, "b pooled_dim"] | None = None
    mask: Shaped[Tensor, "b tokens"] | None = None
    null_states: Float[Tensor, "1 null_tokens dim"] | None = None
    null_pooled: Float[Tensor, "1 pooled_dim"] | None = None

    def condition(self) -> Condition:
        """As the sampler takes it."""
        null = None if self.null_states is None else _condition(self.null_states, self.null_pooled, None)
        told = _condition(self.states, self.pooled, self.mask)
        return told if null is None else told.with_null(null)


def _condition(states: Tensor, pooled: Tensor | None, mask: Tensor | None) -> Condition:
    every = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    return Condition(states, every if mask is None else mask, pooled)


class LayoutPipeline(DiffusionPipeline):
    """A model with a layout branch, its autoencoder and its scheduler; ``save_pretrained`` and ``from_pretrained`` as ever.

    ``transformer`` of SD3's or FLUX's layout, or a ``unet``. ``text_encoding``: settings of the encoder of prompts and phrases
    (:class:`training.recipes.text_encoder.EncoderSettings`), MiniLM where there are none; it is loaded when it is first
    asked. Raises FoundryError for a model without a branch, and where there are two models or none.
    """

    model_cpu_offload_seq = "transformer->unet->vae"
    _optional_components: ClassVar[list[str]] = ["transformer", "unet"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        vae: Any,
        scheduler: Any,
        transformer: Any | None = None,
        unet: Any | None = None,
        text_encoding: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if (transformer is None) == (unet is None):
            raise FoundryError("give either a transformer or a unet; a pipeline draws with one model")
        self.register_modules(vae=vae, scheduler=scheduler, transformer=transformer, unet=unet)
        settings = validate(EncoderSettings, text_encoding or {}, "text_encoding")
        self.register_to_config(text_encoding=dict(text_encoding or {}))
        self._settings = settings
        self._encoder: TextEncoder | None = None
        self._interrupt = False
        if not isinstance(getattr(self.backbone, "layout_options", None), LayoutOptions):
            raise FoundryError(
                f"a {type(self.backbone).__name__} has no layout branch, so boxes cannot be told; name a layout model, or put a "
                "branch on it with load_branch"
            )

    @property
    def backbone(self) -> Any:
        """The model that denoises."""
        return self.unet if self.transformer is None else self.transformer

    @property
    def encoder(self) -> TextEncoder:
        """The encoder of prompts and phrases. Raises FoundryError as :func:`build_encoder` does."""
        if self._encoder is None:
            self._encoder = build_encoder(self._settings)
        return self._encoder

    @property
    def interrupt(self) -> bool:
        """Whether the sampling ends after the present step; callbacks set ``_interrupt``."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        phrases: Sequence[Any] | None = None,
        boxes: Sequence[Any] | None = None,
        *,
        box_format: str = "xyxy",
        negative_prompt: str = "",
        encoded: Encoded | None = None,
        layout: Placed | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 16,
        guidance_scale: float = 3.0,
        true_cfg_scale: float = 1.0,
        layout_strength: float = 1.0,
        layout_window: float = 1.0,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        seeds: Sequence[int] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> Any:
        """Draw; copies of a prompt stand side by side.

        ``prompt``: one with a list of its ``phrases`` and ``boxes``, or several with a list of each, of any number of entities;
        boxes normalised in ``box_format``. In their place ``encoded`` prompts and a ``layout``. ``height`` and ``width`` in
        pixels. ``layout_strength`` 0 is the base, ``layout_window`` the share of steps that are told the layout.
        ``true_cfg_scale``: beside the guidance that FLUX embeds. Noise comes from ``seeds`` or ``generator``, one a picture, or one
        generator for all. A callback may set ``_interrupt``: what there is after the step is decoded.

        Raises FoundryError, before anything is drawn, for what does not fit together or the model.
        """
        told = self._told(prompt, negative_prompt, encoded)
        placed = self._placed(prompt, phrases, boxes, box_format, layout)
        told = told if placed is None else with_layout(told, placed, layout_strength)
        told = told.spread(num_images_per_prompt)
        self._interrupt = False
        with self.progress_bar(total=num_inference_steps) as bar:
            latents = sample_latents(
                self._model(),
                told,
                _seeds(seeds, generator, len(told)),
                num_inference_steps,
                guidance_scale,
                self._latent_size(height, width),
                true_guidance=true_cfg_scale,
                control=window_of(layout_window),
                dtype=None if self.backbone.dtype is torch.float32 else self.backbone.dtype,
                after_step=self._after_step(
                    callback_on_step_end, tuple(callback_on_step_end_tensor_inputs), bar
                ),
            )
        images = self._images(latents, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _told(self, prompt: Any, negative_prompt: str, encoded: Encoded | None) -> Condition:
        if (prompt is None) == (encoded is None):
            raise FoundryError("give either 'prompt' or 'encoded', what should be drawn in words or encoded")
        if encoded is not None:
            return encoded.condition()
        wanted = text_dim(self.backbone.config)
        if self.encoder.dim != wanted:
            raise FoundryError(
                f"prompt: states of the encoder are {self.encoder.dim} wide, this model takes {wanted}; give 'text_encoding' of "
                "the encoder that it was trained with, or 'encoded'"
            )
        return self.encoder.prompts([*_listed(prompt), negative_prompt]).last_as_null()

    def _placed(
        self, prompt: Any, phrases: Any, boxes: Any, box_format: str, layout: Placed | None
    ) -> Placed | None:
        if layout is not None:
            if phrases is not None or boxes is not None:
                raise FoundryError(
                    "'layout' has phrases and boxes of its own; leave out 'phrases' and 'boxes'"
                )
            return layout
        if phrases is None and boxes is None:
            return None
        if phrases is None or boxes is None:
            raise FoundryError(
                "'phrases' and 'boxes' belong together; give both, or neither for the base alone"
            )
        if isinstance(prompt, str):
            phrases, boxes = [phrases], [boxes]
        options: LayoutOptions = self.backbone.layout_options
        entities = entities_of(phrases, boxes, box_format)
        return placed_of(entities, self.encoder, options.max_boxes, options.tokens_per_entity)

    def _model(self) -> _Model:
        device = torch.device(self._execution_device)
        return _Model(self.backbone, device, pixels_per_latent(self.vae.config), self.scheduler)

    def _latent_size(self, height: int | None, width: int | None) -> tuple[int, int] | None:
        if height is None and width is None:
            return None
        stride = pixels_per_latent(self.vae.config)
        if height is None or width is None or height % stride or width % stride:
            raise FoundryError(
                f"height is {height} and width {width}; give both, in multiples of {stride}, or neither for the model's own"
            )
        return height // stride, width // stride

    def _after_step(self, callback: StepEnd | None, names: tuple[str, ...], bar: Any) -> AfterStep:
        for name in names:
            if name not in self._callback_tensor_inputs:
                raise FoundryError(
                    f"callback_on_step_end_tensor_inputs names '{name}'; allowed are {', '.join(self._callback_tensor_inputs)}"
                )

        def after_step(step: int, taken: Taken) -> tuple[Tensor, bool]:
            latents = taken.latents
            if callback is not None:
                given = {"latents": latents} if "latents" in names else {}
                latents = (callback(self, step, taken.timestep, given) or {}).get("latents", latents)
            bar.update()
            return latents, not self._interrupt

        return after_step

    def _images(self, latents: Float[Tensor, "n c h w"], output_type: str) -> Any:
        if output_type == "latent":
            return latents
        images = images_of(self.vae, latents.to(self.vae.dtype))
        return VaeImageProcessor().postprocess(images, output_type=output_type)


def entities_of(phrases: Sequence[Any], boxes: Sequence[Any], box_format: str = "xyxy") -> list[list[Entity]]:
    """Entities of every picture, from lists of phrases and of normalised boxes.

    Raises FoundryError where they differ in number, and as :func:`training.layout.boxes.box_xyxy_norm` does.
    """
    if len(phrases) != len(boxes):
        raise FoundryError(
            f"{len(phrases)} lists of phrases but {len(boxes)} of boxes; give one of each a prompt"
        )
    made = []
    for number, (words, places) in enumerate(zip(phrases, boxes, strict=True)):
        if isinstance(words, str) or len(words) != len(places):
            raise FoundryError(
                f"picture {number}: phrases {words!r} for {len(places)} boxes found; give a list with one phrase a box"
            )
        made.append(
            [
                Entity(phrase, box_xyxy_norm(box, phrase, box_format))
                for phrase, box in zip(words, places, strict=True)
            ]
        )
    return made


def _listed(prompt: str | Sequence[str]) -> list[str]:
    return [prompt] if isinstance(prompt, str) else list(prompt)


def _seeds(
    seeds: Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[Seed]:
    """A seed or generator a picture; without either, drawn by torch's own state."""
    if seeds is not None and generator is not None:
        raise FoundryError("'seeds' and 'generator' both say where noise comes from; give one of them")
    given: list[Seed]
    if isinstance(generator, torch.Generator):
        given = [generator] * count
    elif generator is not None:
        given = list(generator)
    elif seeds is not None:
        given = list(seeds)
    else:
        given = torch.randint(2**62, (count,)).tolist()
    if len(given) != count:
        raise FoundryError(f"{len(given)} seeds or generators for {count} pictures; give one a picture")
    return given
