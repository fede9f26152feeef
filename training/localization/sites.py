"""Hooks on what a text layer projects or gives: the one place that knows where text rows lie in each kind of attention.

A *site* is a place of a layer whose activations are read or replaced: ``keys`` and ``values`` of the text, ``queries`` of the
picture, ``image_keys`` (for attention maps of earlier work), or the layer's ``output`` to the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from training.errors import FoundryError
from training.localization.layers import TextLayer

Site = Literal["keys", "values", "queries", "text_queries", "image_keys", "output"]
KEYS_VALUES: tuple[Site, ...] = ("keys", "values")
MAPS: tuple[Site, ...] = ("queries", "text_queries", "keys", "image_keys")
"""What attention maps are a function of: replaced together, the map is the other run's and values stay a layer's own."""

Change = Callable[[TextLayer, Site, Tensor], Tensor | None]
"""Called with a layer, a site and its rows: other rows of the same shape, or None to leave them."""


@contextmanager
def hooked(
    model: nn.Module, layers: Sequence[TextLayer], sites: Sequence[Site], change: Change
) -> Iterator[None]:
    """While it lasts, every forward pass of ``model`` tells ``change`` the rows of each site and goes on with its answer.

    A site that a kind of attention does not have (``image_keys`` where text alone has keys) is passed over.
    """
    text_length = _TextLength()
    handles = [model.register_forward_pre_hook(text_length.watch, with_kwargs=True)]
    for layer in layers:
        for site in sites:
            part, rows = _place_of(layer, site)
            if part is not None:
                handles.append(part.register_forward_hook(_hook(layer, site, rows, change, text_length)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


Rows = Literal["all", "text", "image"]
"""Which rows of a projection's output are a site's: all of them, or those of one stream where both pass through."""


def _place_of(layer: TextLayer, site: Site) -> tuple[nn.Module | None, Rows]:
    """The module whose output holds a site, and which of its rows."""
    own: Any = layer.attention
    if layer.is_shared:
        shared: Mapping[Site, tuple[Any, Rows]] = {
            "keys": (own.to_k, "text"),
            "values": (own.to_v, "text"),
            "queries": (own.to_q, "image"),
            "text_queries": (own.to_q, "text"),
            "image_keys": (own.to_k, "image"),
            "output": (own, "image"),
        }
        return shared[site]
    has_added = layer.keys is not getattr(own, "to_k", None)
    places: Mapping[Site, Any] = {
        "keys": layer.keys,
        "values": layer.values,
        "queries": own.to_q,
        "text_queries": getattr(own, "add_q_proj", None),
        "image_keys": own.to_k if has_added else None,
        "output": own,
    }
    return places[site], "all"


class _TextLength:
    """How many text tokens the running forward pass has; attention of a single block is not told."""

    def __init__(self) -> None:
        self.tokens = 0

    def watch(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        states = kwargs.get("encoder_hidden_states")
        if states is None:
            raise FoundryError(
                "patching: the model was called without encoder_hidden_states; give the text by keyword, as denoise() does"
            )
        self.tokens = states.shape[1]


def _hook(
    layer: TextLayer, site: Site, rows: Rows, change: Change, length: _TextLength
) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        whole = output[0] if isinstance(output, tuple) else output  # joint attention gives the picture first
        first, last = _bounds(rows, length.tokens)
        other = change(layer, site, whole[:, first:last])
        if other is None:
            return None
        if rows != "all":
            replaced = whole.clone()
            replaced[:, first:last] = other
            other = replaced
        return (other, *output[1:]) if isinstance(output, tuple) else other

    return hook


def _bounds(rows: Rows, tokens: int) -> tuple[int | None, int | None]:
    return {"all": (None, None), "text": (None, tokens), "image": (tokens, None)}[rows]
