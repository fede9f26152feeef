"""What can be fine-tuned."""

from pathlib import Path

from training.errors import FoundryError
from training.schedulers import is_few_step
from training.spec import Recipe


def check_can_be_tuned(recipe: Recipe, parent: Path) -> None:
    """Refuse a few-step parent: the denoising loss would teach it to answer with blurred means again."""
    if is_few_step(parent):
        raise FoundryError(
            f"recipe '{recipe.name}': its parent '{recipe.parent}' draws in few steps, which objective 'diffusion' would "
            "unteach; fine-tune its teacher and distil again"
        )
