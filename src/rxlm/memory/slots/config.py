"""Configuration of the memory and of the network that updates it."""

from typing import ClassVar, Literal, get_args

from rxlm.config import (
    ConfigError,
    config,
    require,
    require_bool,
    require_choice,
    require_int,
    require_number,
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
from rxlm.nn.attention import BACKENDS, AttentionBackend, check_head_counts
from rxlm.nn.feed_forward import ACTIVATIONS

MemoryAttentionVariant = Literal["simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer"]
VARIANTS: tuple[MemoryAttentionVariant, ...] = get_args(MemoryAttentionVariant)
InitialMemory = Literal["normal", "zeros", "learned"]
WriteKind = Literal["attention", "copy"]


@config
class MemoryAttentionConfig(MemoryConfig):
    """Shape and kind of a memory attention network.

    Fields, with shapes' letters as everywhere (L layers, S slots, D dim):
        num_layers, dim, num_slots: L, D and S of the memory.
        max_seq_len: longest interaction, in tokens, that an update can read.
        num_heads, num_query_heads, num_kv_heads: heads of the attention that writes (slots to encoded data).
        consolidation_query_heads, consolidation_kv_heads: heads of the attention before it, among slots; those
            of the writing attention when None.
        variant: what slots attend to before they read the interaction: nothing (`simple`), their own layer
            (`self`), the mean over layers (`interlayer`), a gated mix of both (`self-interlayer`), or the same with
            the mean over one of `num_groups` groups of layers (`grouped-self-interlayer`).
        write: how slots take an interaction in: `attention` reads it and a residual gate lets in what was read; `copy`
            keeps a slot or copies a token's state to it, see `slots/copying.py`, and takes neither heads nor a gate:
            with it their fields are for the other variants' attention among slots.
        gate, gate_activation, gate_per_slot, gate_status, gate_init: the residual gate, see `memory/slots/gate.py`.
        norm: norm of the slots, see `memory/slots/norm.py`.
        initial_memory: `learned` (a parameter, which starts from noise), `zeros`, or `normal` noise, drawn anew.
        initial_std: scale of that noise. None: 0.02 for `normal`, as in the published models, and 1.0 for `learned`:
            slots much smaller than what is written to them lose what tells them apart (see dev/LOG.md).
        slot_identity: adds a learned vector to what each slot asks of an interaction. Slots that begin as zeros are all
            alike without it; with it they need not differ to be told apart.
        attention_gate: activation of a gate on attention outputs, None for none.
        attention_bias: bias of the output projections.
        rope_base: base of the rotary embedding of the encoded data's positions.
        attention_backend: see `nn.Attention`.
    """

    kind: ClassVar[str] = "slots"
    num_layers: int = 12
    dim: int = 512
    num_slots: int = 1024
    max_seq_len: int = 1024
    num_heads: int = 16
    num_query_heads: int | None = None
    num_kv_heads: int | None = None
    consolidation_query_heads: int | None = None
    consolidation_kv_heads: int | None = None
    variant: MemoryAttentionVariant = "interlayer"
    num_groups: int | None = None
    write: WriteKind = "attention"
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
    attention_gate: str | None = None
    attention_bias: bool = False
    rope_base: float = 10000.0
    attention_backend: AttentionBackend = "sdpa"

    def __post_init__(self) -> None:
        require_int(self, "num_layers", "dim", "num_slots", "max_seq_len", "num_heads")
        require_int(self, "num_query_heads", "num_kv_heads", "consolidation_query_heads", "consolidation_kv_heads")
        require_choice(self, "variant", VARIANTS)
        require_choice(self, "write", get_args(WriteKind))
        require_choice(self, "gate", GATES)
        require_choice(self, "gate_activation", GATE_ACTIVATIONS)
        require_choice(self, "gate_status", get_args(SlotStatus))
        require_choice(self, "norm", MEMORY_NORMS)
        require_bool(self, "slot_identity")
        require_choice(self, "initial_memory", get_args(InitialMemory))
        require_choice(self, "attention_gate", (None, *ACTIVATIONS))
        require_choice(self, "attention_backend", BACKENDS)
        require_bool(self, "gate_per_slot", "norm_per_dim_scale", "attention_bias")
        require_number(self, "initial_std", "gate_init", "rope_base")
        require(self.rope_base > 0, f"MemoryAttentionConfig.rope_base must be positive, got {self.rope_base}.")
        require((self.initial_std or 0) >= 0, f"initial_std must not be negative, got {self.initial_std}.")
        self._check_gate()
        self._check_groups()
        self._check_write()
        if self.attends:
            self._check_heads()
        require(self.norm_per_dim_scale or self.norm == "mixed-positional",
                f"norm_per_dim_scale=False is for norm='mixed-positional', got norm={self.norm!r}.")  # fmt: skip

    def build(self) -> MemoryWriter:
        """Return the network that updates the slots."""
        from rxlm.memory.slots.attention import MemoryAttention  # which is made from this configuration

        return MemoryAttention(self)

    @property
    def attends(self) -> bool:
        """Whether anything but the decoder attends with this configuration's heads: what writes, or slots to slots."""
        return self.write == "attention" or self.variant != "simple"

    def _check_heads(self) -> None:
        for heads in (self.write_heads, self.consolidation_heads):
            try:
                check_head_counts(self.dim, self.num_heads, *heads)
            except ValueError as error:
                raise ConfigError(f"{type(self).__name__}: {error}") from None
        even = self.dim // self.num_heads % 2 == 0
        require(even, f"dim / num_heads must be even for rotary embedding, got {self.dim} / {self.num_heads}.")

    def _check_write(self) -> None:
        """Refuse what slots that copy would not heed."""
        if self.write == "attention":
            return
        unheeded, default = ["slot_identity", "rope_base"], MemoryAttentionConfig()
        if not self.attends:
            unheeded += [
                "num_query_heads", "num_kv_heads", "consolidation_query_heads", "consolidation_kv_heads", "gate",
                "gate_activation", "gate_per_slot", "gate_status", "gate_init", "norm", "norm_per_dim_scale",
                "attention_gate", "attention_bias", "attention_backend",
            ]  # fmt: skip
        for name in unheeded:
            value = getattr(self, name)
            require(
                value == getattr(default, name), f"{name}={value!r} means nothing to slots that copy (write='copy')."
            )

    @property
    def write_heads(self) -> tuple[int, int]:
        """Query and key/value heads of the attention from slots to encoded data."""
        query = self.num_query_heads or self.num_heads
        return query, self.num_kv_heads or query

    @property
    def consolidation_heads(self) -> tuple[int, int]:
        """Query and key/value heads of the attention among slots."""
        query, kv = self.write_heads
        return self.consolidation_query_heads or query, self.consolidation_kv_heads or kv

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
