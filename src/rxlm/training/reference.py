"""The reference policy: the model as a stage began with it, from which the stage must not go far."""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rxlm.rxt.core import RxTModel
from rxlm.rxt.earlier_versions import translate_weights

_Module = TypeVar("_Module", bound=nn.Module)


def frozen_copy(module: _Module, learnt: Iterable[nn.Parameter]) -> _Module:
    """Return a copy that does not learn, of which only the weights `learnt` are its own: all others are shared."""
    own = set(learnt)
    shared: dict[int, Any] = {id(each): each for each in module.parameters() if each not in own}
    return deepcopy(module, shared).eval().requires_grad_(False)


class ReferencePolicy:
    """A copy of a model that does not learn; no module, so that it is neither trained nor saved with the weights.

    Args:
        model: as it is now.
        learnt: the weights of it that are going to change; all others are the same tensors in both. None: all change.
    """

    def __init__(self, model: RxTModel, learnt: Collection[nn.Parameter] | None = None) -> None:
        self.model = frozen_copy(model, model.parameters() if learnt is None else learnt)

    def on(self, device: torch.device) -> RxTModel:
        """Return the model, on a device."""
        return self.model.to(device)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return its weights, for the checkpoint."""
        return self.model.state_dict()

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights."""
        self.model.load_state_dict(translate_weights(dict(weights)))
