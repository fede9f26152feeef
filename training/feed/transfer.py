"""Host arrays onto the device without making the host wait for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray | Tensor, device: str | torch.device) -> Tensor:
    """The array as a tensor on ``device``. To a GPU through pinned memory, since a copy from pageable memory blocks.

    On the CPU the tensor shares the array's memory.
    """
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else array
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
