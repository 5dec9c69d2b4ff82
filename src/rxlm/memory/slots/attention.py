"""The network that folds a finished interaction into the memory.

Shapes: L memory layers, B conversations, S slots, T tokens, D model dimension. Every layer reads the previous
state only, so that the layers are independent of each other.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from rxlm.memory.protocol import FinishedTurn, MemoryWriter
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.memory.slots.gate import ResidualGate, make_gate
from rxlm.memory.slots.norm import make_memory_norm
from rxlm.memory.slots.operations import write_flops
from rxlm.memory.slots.state import SlotState
from rxlm.memory.slots.watch import SlotWatch
from rxlm.nn.attention import padding_mask
from rxlm.nn.norm import RMSNorm
from rxlm.nn.rope import RotaryEmbedding, Rotation, token_positions
from rxlm.seeds import Seed, row_generators
from rxlm.shapes import Bool, Float


class MemoryAttentionLayer(nn.Module):
    """Update of one layer's slots: consolidate them with what the memory holds, then write the interaction."""

    parameter_groups: ClassVar[Mapping[str, str]] = {
        "consolidation_gate": "gates", "mix_gate": "gates", "write_gate": "gates",
    }  # fmt: skip
    without_decay: ClassVar[tuple[str, ...]] = ("identity",)

    def __init__(self, config: MemoryAttentionConfig) -> None:
        super().__init__()
        if config.variant != "simple":
            self.consolidation_norm = _norm(config)
            self.consolidation_attention = config.attention_among_slots.build(config.dim)
            self.consolidation_gate = _gate(config)
        self.mix_gate = _gate(config) if config.variant.endswith("self-interlayer") else None
        self.variant = config.variant
        self.identity = None
        self.write_norm = _norm(config)
        if config.slot_identity:
            self.identity = nn.Parameter(torch.empty(config.num_slots, config.dim))
            if not self.identity.is_meta:
                nn.init.normal_(self.identity)
        self.encoded_norm = RMSNorm(config.dim)  # in this place: old checkpoints go by the order of parameters
        self.write_attention = config.attention.build(config.dim)
        self.write_gate = _gate(config)

    def forward(
        self,
        slots: Float[Tensor, "B S D"],
        mean: Float[Tensor, "B S D"] | None,
        encoded: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "B 1 1 T"] | None,
        rotation: Rotation,
    ) -> Float[Tensor, "B S D"]:
        """Return the layer's next slots (B, S, D).

        Args:
            slots: the layer's slots (B, S, D).
            mean: normalised mean of the slots over layers (B, S, D), for the variants that look beyond one layer.
            encoded: the interaction as the encoder's layer sees it (B, T, D).
            mask: True at tokens that may be taken up, (B, 1, 1, T).
            rotation: rotary embedding of the encoded tokens' positions.
        """
        slots, tokens = self.consolidate(slots, mean), self.encoded_norm(encoded)
        asking = self.write_norm(slots)
        if self.identity is not None:
            asking = asking + self.identity
        update = self.write_attention(asking, tokens, key_rotation=rotation, mask=mask)
        return self.write_gate(slots, update.type_as(slots))  # under autocast the memory keeps its own precision

    def consolidate(self, slots: Float[Tensor, "B S D"], mean: Float[Tensor, "B S D"] | None) -> Float[Tensor, "B S D"]:
        """Let slots (B, S, D) attend to their own layer, to the mean over layers, or to a gated mix of both."""
        if self.variant == "simple":
            return slots
        own = self.consolidation_norm(slots)
        if mean is None:
            source = own
        elif self.mix_gate is None:
            source = mean
        else:
            source = self.mix_gate(own, mean)
        return self.consolidation_gate(slots, self.consolidation_attention(own, source).type_as(slots))


class MemoryAttention(MemoryWriter):
    """The whole memory's update: new slots (L, B, S, D) from old slots and the encoded interaction."""

    config: MemoryAttentionConfig
    without_decay: ClassVar[tuple[str, ...]] = ("initial",)

    def __init__(self, config: MemoryAttentionConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(MemoryAttentionLayer(config) for _ in range(config.num_layers))
        self.mean_norm = _norm(config) if "interlayer" in config.variant else None
        self.rope = RotaryEmbedding(config.attention.width(config.dim), config.rope_base)
        self.initial = None
        if config.initial_memory == "learned":
            shape = (config.num_layers, config.num_slots, config.dim)
            self.initial = nn.Parameter(torch.empty(shape))
            if not self.initial.is_meta:  # else a shape to load weights into
                nn.init.normal_(self.initial, std=config.initial_scale)

    def forward(
        self,
        slots: Float[Tensor, "L B S D"],
        encoded: Float[Tensor, "L B T D"],
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "L B S D"]:
        """Return the next slots (L, B, S, D).

        Args:
            slots: the memory's slots (L, B, S, D).
            encoded: encoded data of the interaction, (L, B, T, D).
            mask: True at tokens that may be taken up, (B, T); None: all. A conversation without a single one keeps
                its memory as it is.
        """
        rotation = self.rope(token_positions(encoded.shape[2], mask, encoded.device))
        key_mask = None if mask is None else padding_mask(mask)
        updated = self.through_layers(slots, self._means(slots), encoded, key_mask, rotation)
        return updated if mask is None else torch.where(mask.any(dim=1)[:, None, None], updated, slots)

    def through_layers(
        self,
        slots: Tensor,
        means: Sequence[Tensor | None],
        encoded: Tensor,
        mask: Tensor | None,
        rotation: Rotation,
    ) -> Tensor:
        """Return what each layer makes of its slots, (L, B, S, D); the rest as in `MemoryAttentionLayer`."""
        # Unbound at once: the gradient of a single layer's slice would be as large as the whole memory.
        each = zip(self.layers, slots.unbind(0), means, encoded.unbind(0), strict=True)
        return torch.stack([layer(own, mean, seen, mask, rotation) for layer, own, mean, seen in each])

    def write(self, memory: SlotState, turn: FinishedTurn) -> SlotState:
        """Return the memory after finished turns."""
        assert turn.encoded is not None
        return SlotState(self(memory.slots, turn.encoded, turn.mask))

    def watch(self) -> SlotWatch:
        """Return what measures how far gates open and slots move while it is entered."""
        return SlotWatch(self)

    @property
    def num_places(self) -> int:
        """Slots S of a layer."""
        return self.config.num_slots

    def num_bytes(self, element_size: int) -> int:
        """Return the bytes of one conversation's memory, L x S x D values."""
        return self.config.num_layers * self.config.num_slots * self.config.dim * element_size

    def flops(self, num_tokens: int) -> int:
        """Return the floating-point operations of one update by a turn of `num_tokens` tokens."""
        return write_flops(self, num_tokens)

    def _means(self, slots: Tensor) -> list[Tensor | None]:
        """Normalised mean of the slots over all layers, or over each layer's group; None a layer without either."""
        num_layers = len(self.layers)
        if self.mean_norm is None:
            return [None] * num_layers
        groups = self.config.num_groups or 1
        means = [self.mean_norm(group.mean(0)) for group in slots.chunk(groups)]
        return [means[index * groups // num_layers] for index in range(num_layers)]

    def first_memory(self, batch_size: int, seed: Seed = None) -> SlotState:
        """Return the slots that new conversations start from.

        Args:
            batch_size: number of conversations B.
            seed: for `normal` noise, see `seeds.row_generators`. Learned and zero memories need none.
        """
        config = self.config
        reference = next(self.parameters())
        shape = (config.num_layers, config.num_slots, config.dim)
        if self.initial is not None:
            # A copy, not a view: an optimizer changes the parameter in place, and a state is a value.
            return SlotState(self.initial[:, None].repeat(1, batch_size, 1, 1))
        if config.initial_memory == "zeros":
            return SlotState(reference.new_zeros(shape)[:, None].repeat(1, batch_size, 1, 1))
        rows = [torch.randn(shape, generator=generator) for generator in row_generators(batch_size, seed)]
        return SlotState((torch.stack(rows, dim=1) * config.initial_scale).to(reference))


def _norm(config: MemoryAttentionConfig) -> nn.Module:
    return make_memory_norm(config.norm, config.dim, config.num_slots, config.norm_per_dim_scale)


def _gate(config: MemoryAttentionConfig) -> ResidualGate:
    return make_gate(
        config.gate,
        config.dim,
        config.num_slots,
        activation=config.gate_activation,
        per_slot=config.gate_per_slot,
        status=config.gate_status,
        init=config.gate_init,
    )
