"""Power-function averages of any width, put together after training from a few stored ones.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3 and appendix C: an
average whose profile over training is p(t) = (gamma + 1) t^gamma / t_now^(gamma + 1), with t in images. Its width
relative to training, ``sigma_rel``, is what a person chooses. Profiles of two or more stored averages, at several
moments, span those of others; the weights of the combination come from a small least-squares problem.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.errors import FoundryError, write_error
from training.run_folder import RunFolder

LARGEST_SIGMA_REL = 0.288  # a uniform profile, gamma = 0, has 12^(-1/2)


@dataclass(frozen=True, order=True)
class Profile:
    """One average: its exponent and the images seen when it was taken."""

    gamma: float
    images: float


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a relative width: the root of (gamma + 1) = sigma^2 (gamma + 2)^2 (gamma + 3) above -1 (eq. 126).

    Raises FoundryError for a width outside (0, 0.288].
    """
    if not 0 < sigma_rel <= LARGEST_SIGMA_REL:
        raise FoundryError(
            f"sigma_rel is {sigma_rel}; allowed is 0 to {LARGEST_SIGMA_REL}, such as 0.05 or 0.1"
        )
    t = sigma_rel**-2
    return float(np.roots([1, 7, 16 - t, 12 - t]).real.max())


def sigma_rel_of(gamma: float) -> float:
    """Relative width of an exponent, the inverse of :func:`gamma_of`."""
    return float((gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5))


def profile_products(left: Sequence[Profile], right: Sequence[Profile]) -> Float[np.ndarray, "n m"]:
    """Inner products of profiles over training time, in closed form (appendix C, eq. 151)."""
    a = np.array([(p.gamma, p.images) for p in left])[:, None]
    b = np.array([(p.gamma, p.images) for p in right])[None]
    gamma_a, t_a, gamma_b, t_b = a[..., 0], a[..., 1], b[..., 0], b[..., 1]
    later, shorter = np.maximum(t_a, t_b), np.minimum(t_a, t_b)
    gamma_of_later = np.where(t_a < t_b, gamma_b, gamma_a)
    ratio = (shorter / later) ** gamma_of_later
    return np.asarray((gamma_a + 1) * (gamma_b + 1) * ratio / ((gamma_a + gamma_b + 1) * later))


def combination(stored: Sequence[Profile], wanted: Profile) -> Float[np.ndarray, " n"]:
    """Weights of stored averages whose sum is nearest to the wanted one in the least-squares sense (eq. 150)."""
    products = profile_products(stored, stored)
    right = profile_products(stored, [wanted])[:, 0]
    return np.asarray(np.linalg.lstsq(products, right, rcond=None)[0])


def fit_error(stored: Sequence[Profile], wanted: Profile, weights: Float[np.ndarray, " n"]) -> float:
    """Distance of the combination from the wanted profile, relative to the profile's own norm."""
    norm = profile_products([wanted], [wanted])[0, 0]
    cross = float(weights @ profile_products(stored, [wanted])[:, 0])
    square = norm - 2 * cross + float(weights @ profile_products(stored, stored) @ weights)
    return float(np.sqrt(max(square, 0.0) / norm))


def snapshot_path(folder: RunFolder, images_seen: int, group: str) -> Path:
    """Where the average of a group is kept as it was after so many images."""
    return folder.power_averages / f"{images_seen:015d}.{group}.safetensors"


def write_snapshot(
    folder: RunFolder, images_seen: int, group: str, sigma_rel: float, tensors: Mapping[str, Tensor]
) -> None:
    """Keep an average as it is now. Raises FoundryError when the disk is full."""
    path = snapshot_path(folder, images_seen, group)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        about = {"images_seen": str(images_seen), "sigma_rel": repr(sigma_rel)}
        save_file(
            {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, temporary, about
        )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def stored_profiles(folder: RunFolder) -> dict[Path, Profile]:
    """The averages that a run kept, oldest first."""
    found = {}
    for path in sorted(folder.power_averages.glob("[0-9]*.safetensors")):
        with safe_open(path, "pt") as file:
            about = file.metadata()
        found[path] = Profile(gamma_of(float(about["sigma_rel"])), float(about["images_seen"]))
    return found


def reconstruct(
    folder: RunFolder, sigma_rel: float, images_seen: int | None = None
) -> tuple[dict[str, Tensor], float]:
    """Weights of the power-function average of any width at any moment (default: the last one kept), and how far its
    profile is from the wanted one, relative to its norm.

    Raises FoundryError when the run kept no averages or the width cannot be.
    """
    profiles = stored_profiles(folder)
    if not profiles:
        raise FoundryError(
            f"{folder.power_averages}: holds no averages; train with power_ema_sigma_rels and power_ema_every_images"
        )
    last = max(profile.images for profile in profiles.values())
    wanted = Profile(gamma_of(sigma_rel), float(images_seen or last))
    before = {path: profile for path, profile in profiles.items() if profile.images <= wanted.images}
    if not before:
        raise FoundryError(
            f"{folder.power_averages}: nothing was kept up to image {images_seen}; the first is later"
        )
    weights = combination(list(before.values()), wanted)
    total: dict[str, Tensor] = {}
    for path, weight in zip(before, weights, strict=True):
        _add(total, path, float(weight))
    return {name: value.float() for name, value in total.items()}, fit_error(
        list(before.values()), wanted, weights
    )


def _add(total: dict[str, Tensor], path: Path, weight: float) -> None:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            part = file.get_tensor(name).to(torch.float64) * weight
            total[name] = total[name] + part if name in total else part
