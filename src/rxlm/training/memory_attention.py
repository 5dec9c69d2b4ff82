"""Stage 3: memory attention learns to blend the memory with a new interaction, without labels.

At turn t the target is (1 - w_t) * STM_(t-1) + w_t * ED_t, detached, and the loss the negative cosine similarity, over
the dimension, of the network's new state with it (RxT paper, self-supervised memory attention pre-training). Only
memory attention learns; it takes minutes.

Shapes: N turns, B dialogues, T tokens, L memory layers, S slots, D model dimension.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.config import Config, config, require, require_share
from rxlm.data.batches import DialogueBatch, StreamBatch
from rxlm.memory import MemoryAttentionConfig, MemoryState, SlotState
from rxlm.rxt.core import RxTModel
from rxlm.training.module import Counts, Losses, TrainModule, part_of
from rxlm.training.turns import Turns


@config
class MemoryAttentionTrainingConfig(Config):
    """Settings of stage 3.

    Fields:
        first_weight: share of the new data in the first turn's target, when memory means nothing yet.
        later_weight, weight_step: share in the later turns: later_weight - weight_step * t, at least 0.
        weight_noise: each weight is changed at random by up to this share of it.
        noise: scale of the Gaussian noise on the encoded data and on the targets.
    """

    first_weight: float = 0.9
    later_weight: float = 0.5
    weight_step: float = 0.05
    weight_noise: float = 0.15
    noise: float = 0.05

    def __post_init__(self) -> None:
        require_share(self, "first_weight", "later_weight", "weight_step", "weight_noise")
        require(self.noise >= 0, f"noise must not be negative, got {self.noise}.")

    def weight(self, turn: int) -> float:
        """Return the share of the new data in the target of turn number `turn`, from 0."""
        return self.first_weight if turn == 0 else max(0.0, self.later_weight - self.weight_step * turn)


class MemoryAttentionPretraining(TrainModule):
    """Walk a dialogue; at each turn pull the new state towards a mean of the old state and the encoded turn."""

    def __init__(self, model: RxTModel, settings: MemoryAttentionTrainingConfig) -> None:
        memory = model.memory_writer.config
        if not isinstance(memory, MemoryAttentionConfig):
            raise ValueError(
                f"Stage 3 pulls slots towards a mean of old and new, and this model's memory is {memory.kind!r}: leave "
                "the stage out."
            )
        super().__init__(model)
        self.settings = settings

    def start_step(self, step: int) -> None:
        """Freeze everything but memory attention."""
        self.model.requires_grad_(False)
        self.model.memory_writer.requires_grad_(True)

    def prepare(self, batch: DialogueBatch | StreamBatch, generator: torch.Generator) -> Turns:
        """Lay the turns of a batch out in one tensor."""
        return super().prepare(Turns.of(batch), generator)

    def counts(self, batch: Turns) -> Counts:
        """Count the turns that have words."""
        return {"turns": float(batch.mask.any(dim=2).sum())}

    def forward(self, batch: Turns, totals: Mapping[str, float]) -> Losses:
        """Return the mean negative cosine similarity."""
        memory = self._slots(self.model.init_memory(batch.batch_size))
        with torch.no_grad():
            encoded = self.model.encode(batch.ids.flatten(0, 1), batch.mask.flatten(0, 1))
        encoded = encoded.unflatten(1, (batch.num_turns, batch.batch_size))
        similarity = memory.new_zeros(())
        for turn in range(batch.num_turns):
            mask = batch.mask[turn]
            seen = encoded[:, turn] + self.settings.noise * torch.randn_like(encoded[:, turn])
            new = self._slots(self.model.write(SlotState(memory), batch.ids[turn], mask, seen))
            target = self._target(memory.detach(), encoded[:, turn], mask, turn)
            per_row = F.cosine_similarity(new, target, dim=-1).mean(dim=(0, 2))  # (B,)
            similarity = similarity + (per_row * mask.any(dim=1)).sum()
            memory = new.detach()
        loss = -similarity / totals["turns"]
        return Losses(loss, {"cosine_similarity": -loss.detach()})

    def diagnose(self, batch: Turns) -> dict[str, float]:
        """Measure how far gates open and memory moves."""
        part = batch.first(part_of(batch.batch_size))
        with self.model.memory_writer.watch() as watch:
            self(part, self.counts(part))
        return watch.figures()

    def _slots(self, memory: MemoryState) -> Tensor:
        assert isinstance(memory, SlotState)
        return memory.slots

    def _target(self, memory: Tensor, encoded: Tensor, mask: Tensor, turn: int) -> Tensor:
        weight = self.settings.weight(turn)
        weight *= 1 + self.settings.weight_noise * (2 * float(torch.rand(())) - 1)
        target = (1 - weight) * memory + weight * resample(encoded, mask, memory.shape[2])
        return target + self.settings.noise * torch.randn_like(target)


def resample(encoded: Tensor, mask: Tensor, num_slots: int) -> Tensor:
    """Stretch each row's real tokens evenly over the slots, by linear interpolation.

    Args:
        encoded: encoded data (L, B, T, D).
        mask: True at real tokens, (B, T), which stand at the start of a row.
        num_slots: S.

    Returns: (L, B, S, D).
    """
    lengths = mask.sum(1, keepdim=True).clamp(min=1)
    place = torch.linspace(0, 1, num_slots, device=encoded.device) * (lengths - 1)  # (B, S)
    low = place.floor().long()
    high = torch.minimum(low + 1, lengths - 1)
    share = (place - low)[None, :, :, None].to(encoded.dtype)

    def at(index: Tensor) -> Tensor:
        return encoded.gather(2, index[None, :, :, None].expand(encoded.shape[0], -1, -1, encoded.shape[3]))

    return (1 - share) * at(low) + share * at(high)
