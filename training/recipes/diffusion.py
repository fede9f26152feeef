"""Options of the diffusion objective."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from training.recipes.section import Fraction, Section


class DiffusionOptions(Section):
    """Options of the diffusion objective."""

    prediction: Literal["flow", "clean", "epsilon", "v"] = Field(
        default="flow", description="what the network predicts"
    )
    time_sampling: Literal["logit_normal", "uniform"] = Field(
        default="logit_normal", description="how noise levels are drawn"
    )
    logit_mean: float = Field(default=0.0, ge=-10, le=10, description="mean of logit(t), t = 1 is pure noise")
    logit_std: float = Field(default=1.0, gt=0, le=10, description="standard deviation of logit(t)")
    caption_dropout: Fraction = Field(
        default=0.1, description="chance of training on the empty caption, for guidance"
    )
    noise_schedule: Literal["scaled_linear", "linear", "cosine"] = Field(
        default="scaled_linear", description="betas of epsilon and v predictions; flow and clean have none"
    )
    zero_terminal_snr: bool = Field(
        default=False, description="rescale the betas so that the last step is pure noise; v prediction only"
    )
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="weigh the clean latent's error by min(SNR, gamma); None: plain error",
    )
    velocity_floor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="clean prediction: weigh its error by 1 / max(t, floor)^2, as an error of the velocity; None: plain",
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> DiffusionOptions:
        is_flow_path = self.prediction in ("flow", "clean")
        if is_flow_path and (self.noise_schedule != "scaled_linear" or self.zero_terminal_snr):
            raise ValueError(
                f"prediction '{self.prediction}' mixes noise in along straight lines and has no betas; "
                "leave noise_schedule and zero_terminal_snr out"
            )
        if self.zero_terminal_snr and self.prediction != "v":
            raise ValueError("'zero_terminal_snr' leaves epsilon nothing to tell at the last step; predict v")
        return self

    @model_validator(mode="after")
    def _check_weights(self) -> DiffusionOptions:
        if self.velocity_floor is None:
            return self
        if self.prediction != "clean":
            raise ValueError(
                f"'velocity_floor' weighs the errors of prediction 'clean', found '{self.prediction}'; leave it out"
            )
        if self.min_snr_gamma is not None:
            raise ValueError("'velocity_floor' and 'min_snr_gamma' both weigh the error; give one of them")
        return self

    @model_serializer(mode="wrap")
    def _own_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a weight that is not asked for: it is in no older run's hash."""
        settings: dict[str, Any] = handler(self)
        if self.velocity_floor is None:
            del settings["velocity_floor"]
        return settings
