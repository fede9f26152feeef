"""Options of step distillation."""

from __future__ import annotations

from pydantic import Field, model_validator

from training.recipes.section import Positive, Section


class StepDistillationOptions(Section):
    """Options of step distillation (consistency distillation from the recipe's parent)."""

    intervals: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="steps of the teacher's path; 1000 / intervals timesteps are skipped",
    )
    guidance_min: float = Field(
        default=3.0, ge=1, le=100, description="least guidance built in, in the pipelines' form: 1 is none"
    )
    guidance_max: float = Field(
        default=3.0, ge=1, le=100, description="most guidance built in; drawn evenly between the two"
    )
    target_half_life_images: Positive | None = Field(
        default=500,
        description="half life of the target network's average, at most a 20th of the images seen; None: the student itself",
    )
    huber: float | None = Field(
        default=None, gt=0, le=100, description="scale c of the pseudo-Huber loss; None for the squared error"
    )

    @model_validator(mode="after")
    def _check_together(self) -> StepDistillationOptions:
        if self.guidance_min > self.guidance_max:
            raise ValueError(
                f"'guidance_min' is {self.guidance_min}, above guidance_max {self.guidance_max}; lower it"
            )
        return self
