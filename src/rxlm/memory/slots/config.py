"""Configuration of the memory and of the network that updates it."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from rxlm.config import (
    config,
    require,
    require_bool,
    require_choice,
    require_config,
    require_int,
)
from rxlm.memory.protocol import MemoryConfig, MemoryWriter
from rxlm.memory.slots.gate import (
    GATE_ACTIVATIONS,
    GATES,
    PER_SLOT_GATES,
    STATUS_GATES,
    GateActivation,
    GateKind,
    SlotStatus,
)
from rxlm.memory.slots.norm import MEMORY_NORMS, MemoryNormKind
from rxlm.nn.attention import AttentionConfig
from rxlm.nn.heads import HeadCounts
from rxlm.nn.sizes import require_sizes

MemoryAttentionVariant = Literal["simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer"]
VARIANTS: tuple[MemoryAttentionVariant, ...] = get_args(MemoryAttentionVariant)
InitialMemory = Literal["normal", "zeros", "learned"]
MOST_NUMBERS = 1 << 32
"""Of one conversation's memory."""


@config
class MemoryAttentionConfig(MemoryConfig):
    """Shape and kind of a memory attention network.

    Fields, with shapes' letters as everywhere (L layers, S slots, D dim):
        num_layers, dim, num_slots: L, D and S of the memory.
        max_seq_len: longest interaction, in tokens, that an update can read.
        attention: the attention that writes (slots to encoded data).
        consolidation: the attention before it, among slots; as the writing one when None.
        variant: what slots attend to before they read the interaction: nothing (`simple`), their own layer
            (`self`), the mean over layers (`interlayer`), a gated mix of both (`self-interlayer`), or the same with
            the mean over one of `num_groups` groups of layers (`grouped-self-interlayer`).
        gate, gate_activation, gate_per_slot, gate_status, gate_init: the residual gate, see `memory/slots/gate.py`.
        norm: norm of the slots, see `memory/slots/norm.py`.
        initial_memory: `learned` (a parameter, which starts from noise), `zeros`, or `normal` noise, drawn anew.
        initial_std: scale of that noise. None: 0.02 for `normal`, as in the published models, and 1.0 for `learned`:
            slots much smaller than what is written to them lose what tells them apart (see dev/LOG.md).
        slot_identity: adds a learned vector to what each slot asks of an interaction. Slots that begin as zeros are all
            alike without it; with it they need not differ to be told apart.
        rope_base: base of the rotary embedding of the encoded data's positions.
    """

    kind: ClassVar[str] = "slots"
    flat_names: ClassVar = {
        name: (f"attention.{field}", f"consolidation.{field}")
        for name, field in {
            "num_heads": "num_heads",
            "num_query_heads": "num_query_heads",
            "num_kv_heads": "num_kv_heads",
            "attention_gate": "gate",
            "attention_bias": "out_bias",
            "attention_backend": "backend",
        }.items()
    } | {f"consolidation_{kind}_heads": (f"consolidation.num_{kind}_heads",) for kind in ("query", "kv")}

    num_layers: int = 12
    dim: int = 512
    num_slots: int = 1024
    max_seq_len: int = 1024
    attention: AttentionConfig = AttentionConfig()
    consolidation: AttentionConfig | None = None
    variant: MemoryAttentionVariant = "interlayer"
    num_groups: int | None = None
    gate: GateKind = "content"
    gate_activation: GateActivation = "sigmoid"
    gate_per_slot: bool = True
    gate_status: SlotStatus = "mean"
    gate_init: float | None = None
    norm: MemoryNormKind = "rms"
    norm_per_dim_scale: bool = True
    initial_memory: InitialMemory = "learned"
    initial_std: float | None = None
    slot_identity: bool = False
    rope_base: float = 10000.0

    def __post_init__(self) -> None:
        require_int(self, "num_layers", "dim", "num_slots", "max_seq_len")
        require_sizes(self)
        numbers = self.num_layers * self.num_slots * self.dim
        require(
            numbers <= MOST_NUMBERS,
            f"A memory of num_layers={self.num_layers}, num_slots={self.num_slots} and dim={self.dim} has {numbers:,} "
            f"numbers; at most {MOST_NUMBERS:,} are possible.",
        )
        require_config(self, "attention", AttentionConfig)
        require_config(self, "consolidation", AttentionConfig, None)
        require_choice(self, "variant", VARIANTS)
        require_choice(self, "gate", GATES)
        require_choice(self, "gate_activation", GATE_ACTIVATIONS)
        require_choice(self, "gate_status", get_args(SlotStatus))
        require_choice(self, "norm", MEMORY_NORMS)
        require_bool(self, "slot_identity")
        require_choice(self, "initial_memory", get_args(InitialMemory))
        require_bool(self, "gate_per_slot", "norm_per_dim_scale")
        require(self.rope_base > 0, f"MemoryAttentionConfig.rope_base must be positive, got {self.rope_base}.")
        require((self.initial_std or 0) >= 0, f"initial_std must not be negative, got {self.initial_std}.")
        self._check_gate()
        self._check_groups()
        self._check_heads()
        require(self.norm_per_dim_scale or self.norm == "mixed-positional",
                f"norm_per_dim_scale=False is for norm='mixed-positional', got norm={self.norm!r}.")  # fmt: skip

    def build(self) -> MemoryWriter:
        """Return the network that updates the slots."""
        from rxlm.memory.slots.attention import MemoryAttention  # which is made from this configuration

        return MemoryAttention(self)

    def describe(self) -> str:
        """Return sizes, variant, gate, and how the first memory is made."""
        sizes = f"{self.num_layers} layers x {self.num_slots} slots x {self.dim}"
        return f"{sizes}, {self.variant}, gate {self.gate}, initially {self.initial_memory}"

    @classmethod
    def nest(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields without flat names; where heads of the consolidation are, the rest is as in `attention`."""
        rest = dict(values)
        query, kv = (rest.pop(f"consolidation_{kind}_heads", None) for kind in ("query", "kv"))
        result = super().nest(rest)
        if query or kv:
            whole = result.get("consolidation") or result.get("attention") or AttentionConfig()
            changes = {"num_query_heads": query or whole.heads[0], "num_kv_heads": kv or whole.heads[1]}
            result["consolidation"] = whole.replace(**changes)
        return result

    @property
    def attention_among_slots(self) -> AttentionConfig:
        """What slots attend to each other with."""
        return self.consolidation or self.attention

    def _check_heads(self) -> None:
        for each in (self.attention, self.attention_among_slots):
            width, window = each.width(self.dim), each.sliding_window
            require(width % 2 == 0, f"head_dim (dim / num_heads) must be even for rotary embedding, got {width}.")
            require(window is None, f"sliding_window={window} means nothing to slots: they have no positions.")

    @property
    def write_heads(self) -> HeadCounts:
        """Query and key/value heads of the attention from slots to encoded data."""
        return self.attention.heads

    @property
    def consolidation_heads(self) -> HeadCounts:
        """Query and key/value heads of the attention among slots."""
        return self.attention_among_slots.heads

    @property
    def initial_scale(self) -> float:
        """Standard deviation of the noise that the initial memory is, or starts from."""
        if self.initial_std is not None:
            return self.initial_std
        return 1.0 if self.initial_memory == "learned" else 0.02

    def _check_gate(self) -> None:
        def only(field: str, default: object, gates: tuple[GateKind, ...]) -> None:
            value = getattr(self, field)
            allowed = value == default or self.gate in gates
            require(allowed, f"{field}={value!r} is for the gates {', '.join(gates)}, got gate={self.gate!r}.")

        only("gate_activation", "sigmoid", tuple(gate for gate in GATES if gate not in ("none", "content")))
        only("gate_init", None, tuple(gate for gate in GATES if gate != "none"))
        only("gate_per_slot", True, PER_SLOT_GATES)
        only("gate_status", "mean", STATUS_GATES)

    def _check_groups(self) -> None:
        if self.variant != "grouped-self-interlayer":
            require(self.num_groups is None, f"num_groups is for grouped variants, got variant={self.variant!r}.")
            return
        groups = self.num_groups
        divides = isinstance(groups, int) and groups >= 1 and self.num_layers % groups == 0
        require(divides, f"num_groups must divide num_layers={self.num_layers}, got {groups!r}.")
