"""What a stage is to the loop: a module that turns a batch into losses.

Losses are sums divided by counts that span the whole optimizer step, all its microbatches on all processes: so that
accumulating gradients, or sharing rows among processes, gives what one larger batch would give.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.memory import MemoryReading, MemoryState
from rxlm.nn.cross_entropy import TokenLoss
from rxlm.nn.moe import Routing
from rxlm.rxt.core import RxTModel
from rxlm.rxt.decoder import RxTDecoder

Counts = dict[str, float]
T = TypeVar("T")


class Losses(NamedTuple):
    """What one microbatch gives: `total` to go backward from, and its share of each named figure for the log."""

    total: Tensor  # sharded training finds it because this is a tuple
    figures: dict[str, Tensor]


class StageModule(nn.Module):
    """Base of all stages, whatever they train: how a stage prepares a batch, what it counts, and its losses."""

    by_layer: ClassVar[bool] = False
    """Whether `forward` computes the same layers in the same order in all processes, whatever their batches are."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def with_weights(self, function: Callable[[], T]) -> T:
        """Call what uses the weights outside of `forward`: weights that are sharded are whole meanwhile."""
        return function()

    def frozen_decoders(self) -> Sequence[RxTDecoder]:
        """Return decoders that never learn, which `forward` reads with: they can be sharded, too."""
        return ()

    def start_step(self, step: int) -> None:
        """Set what depends on the number of the optimizer step: what is frozen, curricula."""

    def finish(self) -> None:
        """Take away what only training needs, once the stage is done."""

    def save(self, folder: Path) -> None:
        """Write what the stage has made besides the model, to the folder of the stage; before `finish`."""

    def prepare(self, batch: Any, generator: torch.Generator) -> Any:
        """Move a batch to the model's device and draw what is random in it."""
        return batch.to(self.device)

    def counts(self, batch: Any) -> Counts:
        """Return how many terms each loss of this batch averages over."""
        raise NotImplementedError

    def forward(self, batch: Any, totals: Mapping[str, float]) -> Losses:
        """Return the losses of a prepared batch, as its share of a step whose counts are `totals`."""
        raise NotImplementedError

    def diagnose(self, batch: Any) -> dict[str, Any]:
        """Return figures for the log that training itself does not need, from a part of a prepared batch.

        The loop calls it on steps that are logged, in evaluation mode, without gradients, and puts the random state
        back after it.
        """
        return {}

    def see_figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Look at the figures of a step that is logged."""

    def shared_state(self) -> dict[str, Any]:
        """Return what the stage has besides weights that is the same in all processes, for the checkpoint."""
        return {}

    def load_shared_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `shared_state` returned."""

    def carried_state(self) -> dict[str, Any]:
        """Return what this process carries from step to step, besides weights, for the checkpoint."""
        return {}

    def load_carried_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `carried_state` returned."""


class TrainModule(StageModule):
    """Base of the stages of a Reactive Transformer."""

    def __init__(self, model: RxTModel) -> None:
        super().__init__()
        self.model = model


def answer_loss(
    model: RxTModel,
    ids: Tensor,
    targets: Tensor,
    memory: MemoryState | MemoryReading | None,
    *,
    segments: Tensor | None = None,
    routing: Routing | None = None,
) -> TokenLoss:
    """Return the summed cross-entropy of the tokens at `targets`, and how many of them the model would have chosen.

    Args:
        ids: the tokens themselves, (B, T).
        targets: True at tokens whose prediction counts, (B, T); never the first of a row.
        memory, segments, routing: as in `RxTDecoder.hidden_states`.
    """
    before = F.pad(targets[:, 1:], (0, 1))  # the tokens that they are predicted from
    hidden = model.decoder.hidden_states(ids, memory, segments=segments, routing=routing, wanted=before)
    return model.decoder.head(hidden, ids[targets])


def empty_memory_loss(
    model: RxTModel, ids: Tensor, targets: Tensor, segments: Tensor | None = None
) -> dict[str, Tensor]:
    """Return `answer_loss_empty`: the mean loss of the tokens at `targets` (B, T), answered from the initial memory."""
    loss, _ = answer_loss(model, ids, targets, model.init_memory(ids.shape[0]), segments=segments)
    return {"answer_loss_empty": loss / targets.sum().clamp(min=1)}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and back in its mode afterwards, also where something fails meanwhile."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def part_of(batch_size: int) -> int:
    """Return how many of a batch's rows are diagnosed: few enough to cost next to nothing."""
    return max(1, batch_size // 8)
