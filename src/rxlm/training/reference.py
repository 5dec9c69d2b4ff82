"""The reference policy: the model as a stage began with it, from which the stage must not go far."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from rxlm.rxt.core import RxTModel
from rxlm.rxt.earlier_versions import translate_weights


class ReferencePolicy:
    """A copy of a model that does not learn; no module, so that it is neither trained nor saved with the weights.

    Args:
        model: as it is now.
        learnt: the weights of it that are going to change; all others are the same tensors in both. None: all change.
    """

    def __init__(self, model: RxTModel, learnt: Collection[nn.Parameter] | None = None) -> None:
        own = set(model.parameters() if learnt is None else learnt)
        shared: dict[int, Any] = {id(each): each for each in model.parameters() if each not in own}
        self.model = deepcopy(model, shared).eval().requires_grad_(False)

    def on(self, device: torch.device) -> RxTModel:
        """Return the model, on a device."""
        return self.model.to(device)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return its weights, for the checkpoint."""
        return self.model.state_dict()

    def load_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights."""
        self.model.load_state_dict(translate_weights(dict(weights)))
