"""Tiny models for tests: one of each kind of layer, head count, gate and memory, in float64, with random weights."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from rxlm.data.padding import padded
from rxlm.memory import MemoryState, SlotState
from rxlm.memory.retained.config import RetainedMemoryConfig
from rxlm.memory.retained.gate import RetentionGateConfig
from rxlm.memory.retained.state import RetainedState
from rxlm.memory.slots.config import MemoryAttentionConfig
from rxlm.rxt.config import DecoderConfig, RxTAlphaTokenizerConfig, RxTComponentConfig
from rxlm.rxt.decoding import Column
from rxlm.rxt.models import RxTAlpha, RxTBeta
from rxlm.rxt.prompt import Prompt

M = TypeVar("M", bound=nn.Module)

VOCAB = 40
MAX_SEQ_LEN = 24
NUM_SLOTS = 6
NUM_KEPT = 12
DIM = 16
ALPHA_TOKENS = RxTAlphaTokenizerConfig(
    pad_token_id=0, bos_token_id=2, eos_token_id=3, query_token_id=5, answer_token_id=6
)
BETA_TOKENS = ALPHA_TOKENS.replace(think_token_id=7)
FIRST_TEXT_TOKEN = 8

COMPONENT: dict[str, Any] = {
    "vocab_size": VOCAB, "dim": DIM, "max_seq_len": MAX_SEQ_LEN, "num_slots": NUM_SLOTS, "num_heads": 4, "ff_dim": 20,
}  # fmt: skip
MEMORY: dict[str, Any] = {
    "dim": DIM, "max_seq_len": MAX_SEQ_LEN, "num_slots": NUM_SLOTS, "num_heads": 4, "attention_bias": True,
}  # fmt: skip


class Architecture(NamedTuple):
    """What an architecture changes in the tiny configurations; `shared` goes to decoder and encoder."""

    num_layers: int = 2
    shared: dict[str, Any] = {}  # noqa: RUF012
    decoder: dict[str, Any] = {}  # noqa: RUF012
    encoder: dict[str, Any] = {}  # noqa: RUF012
    memory: dict[str, Any] = {}  # noqa: RUF012
    retains: bool = False
    """Whether the memory keeps tokens; else it has slots."""


ARCHITECTURES = {
    "mha-simple-content": Architecture(
        memory={"variant": "simple", "gate": "content"},
    ),
    "gqa-window-self-elementwise": Architecture(
        shared={"num_kv_heads": 2, "sliding_window": 3, "ff_bias": True},
        decoder={"tie_head": True},
        memory={"variant": "self", "gate": "elementwise", "norm": "mixed-layer", "initial_memory": "zeros"},
    ),
    "sqa-qknorm-interlayer-slotlinear": Architecture(
        shared={"num_query_heads": 2, "num_kv_heads": 1, "qk_norm": True},
        decoder={"final_norm": "layer", "memory_query_heads": 4, "memory_kv_heads": 2},
        memory={"variant": "interlayer", "gate": "slot-linear", "norm": "mixed-rms", "initial_memory": "normal",
                "initial_std": 1.0, "num_query_heads": 2, "num_kv_heads": 2},
    ),
    "reverse-gated-selfinterlayer-slotelementwise": Architecture(
        shared={"num_query_heads": 2, "num_kv_heads": 4, "attention_gate": "sigmoid", "attention_bias": True},
        decoder={"memory_attention_gate": "silu", "stateless_layers": ("dense",), "dense_ff_dim": 12},
        memory={"variant": "self-interlayer", "gate": "slot-elementwise", "gate_activation": "tanh",
                "gate_status": "linear", "norm": "mixed-positional", "norm_per_dim_scale": False,
                "num_query_heads": 1, "num_kv_heads": 2, "attention_gate": "sigmoid"},
    ),
    "mqa-moe-grouped-static": Architecture(
        num_layers=4,
        shared={"num_kv_heads": 1},
        decoder={"num_experts": 4, "experts_per_token": 2, "num_shared_experts": 2, "shared_expert_dim": 12,
                 "expert_bias": "local", "shared_expert_bias": "local", "weighted_shared_experts": True,
                 "stateless_layers": ("dense", "moe"), "final_stateless_layers": ("moe",), "sliding_window": 4},
        memory={"variant": "grouped-self-interlayer", "num_groups": 2, "gate": "static", "num_kv_heads": 1},
    ),
    "moe-encoder-reads-memory-linear": Architecture(
        shared={"num_experts": 3, "experts_per_token": 2, "num_shared_experts": 1, "expert_bias": "global",
                "shared_expert_bias": "global", "ff_gated": False, "ff_activation": "gelu", "norm": "layer",
                "head_bias": True},
        encoder={"reads_memory": True},
        memory={"variant": "interlayer", "gate": "linear", "consolidation_query_heads": 2,
                "consolidation_kv_heads": 1},
    ),
    "mha-selfinterlayer-none": Architecture(
        decoder={"final_norm": None, "num_query_heads": 2, "num_kv_heads": 2},
        memory={"variant": "self-interlayer", "gate": "none", "norm": "rms"},
    ),
    "gqa-biased-retained": Architecture(
        num_layers=3,
        shared={"num_kv_heads": 2, "qkv_bias": True},
        decoder={"tie_head": True, "retention_gate": RetentionGateConfig(hidden_dim=5), "max_positions": 40},
        memory={"num_kv_heads": 2},
        retains=True,
    ),
    "gqa-retained-tokens": Architecture(
        shared={"num_kv_heads": 2},
        decoder={"retention_gate": RetentionGateConfig(hidden_dim=5, granularity="token")},
        memory={"num_kv_heads": 2},
        retains=True,
    ),
}  # fmt: skip
"""Together: all memory variants, all gates, kept tokens, dense and expert layers, every kind of head count."""

WITH_SLOTS = [name for name, architecture in ARCHITECTURES.items() if not architecture.retains]
"""Those whose memory has slots."""


def configuration(architecture: Architecture, tokens: RxTAlphaTokenizerConfig = ALPHA_TOKENS) -> dict[str, Any]:
    """Return the constructor's arguments of a tiny model."""
    num_layers, shared, decoder, encoder, memory, retains = architecture
    component = COMPONENT | {"num_layers": num_layers} | shared
    if retains:
        kept = RetainedMemoryConfig(
            num_layers=num_layers, dim=DIM, max_seq_len=MAX_SEQ_LEN, head_dim=DIM // 4, num_tokens=NUM_KEPT,
            num_sinks=2, answer_end=(3, 9), **memory,
        )  # fmt: skip
        longer = {"max_seq_len": MAX_SEQ_LEN + 3, "memory_reader": None}
        return {
            "decoder_config": DecoderConfig.of(component | longer | decoder),
            "encoder_config": None,
            "memory_attention_config": kept,
            "tokenizer_config": tokens.replace(conversation_prefix=(2, 10, 11)),
        }
    return {
        "decoder_config": RxTComponentConfig(**component | decoder),
        "encoder_config": RxTComponentConfig(**component | encoder),
        "memory_attention_config": MemoryAttentionConfig(**MEMORY | {"num_layers": num_layers} | memory),
        "tokenizer_config": tokens,
    }


def build(architecture: Architecture | str = "mha-simple-content", seed: int = 0) -> RxTAlpha:
    """Return a new tiny model in float64 whose weights are all random."""
    if isinstance(architecture, str):
        architecture = ARCHITECTURES[architecture]
    return randomise(RxTAlpha(**configuration(architecture)).double(), seed)


@cache
def shared_model(name: str) -> RxTAlpha:
    """Return the model of an architecture, built once: tests must leave its weights as they are."""
    return build(name)


def build_beta(seed: int = 0) -> RxTBeta:
    """Return a new tiny model that thinks, in float64, whose weights are all random."""
    return randomise(RxTBeta(**configuration(Architecture(), BETA_TOKENS)).double(), seed)


@torch.no_grad()
def randomise(module: M, seed: int = 0) -> M:
    """Give every parameter and stored average a random value, large enough to matter, and return the module."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        if name.endswith("average_rms"):
            tensor.copy_(0.5 + noise.abs())
        elif name.endswith(("norm.weight", "scale")):
            tensor.copy_(1 + 0.3 * noise)
        elif "embedding" in name or name.endswith("initial") or tensor.dim() < 2 or "gate.weight" in name:
            tensor.copy_(noise)
        else:
            tensor.copy_(noise * 1.5 / tensor.shape[-1] ** 0.5)
    return module.eval()


def some_memory(model: RxTAlpha, seeds: Sequence[int]) -> MemoryState:
    """Return the memories of conversations that are well under way, one a seed."""
    config = model.memory_writer.config
    if isinstance(config, RetainedMemoryConfig):
        return MemoryState.join([_after_turns(model, seed) for seed in seeds])
    shape = (config.num_layers, config.num_slots, config.dim)
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(1000 + seed)) for seed in seeds]
    return SlotState(torch.stack(rows, dim=1).to(model.dtype))


@cache
@torch.no_grad()
def _after_turns(model: RxTAlpha, seed: int) -> MemoryState:
    """Return the memory after up to three turns, so that some are full and some are not."""
    memory = model.init_memory(1)
    for number in range(seed % 4):
        memory = model.update_memory(memory, some_ids(1, 1 + (seed + number) % 9, 1000 + 10 * seed + number))
    return memory


def some_ids(num_rows: int, num_tokens: int, seed: int = 0) -> Tensor:
    """Return random ordinary tokens, (B, T)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST_TEXT_TOKEN, VOCAB, (num_rows, num_tokens), generator=generator)


class Padded(NamedTuple):
    """Rows of tokens laid out in one tensor: `ids` and `mask` (B, T), and where each row's tokens are."""

    ids: Tensor
    mask: Tensor
    places: list[list[int]]

    def row(self, values: Tensor, row: int) -> Tensor:
        """Return what `values` (..., B, T, D) holds at one row's own tokens, (..., n, D)."""
        return values.select(-3, row)[..., self.places[row], :]


def lay_out(rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], width: int, filler: int = 0) -> Padded:
    """Put token j of row b at places[b][j], and `filler` everywhere else."""
    ids = torch.full((len(rows), width), filler)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (tokens, where) in enumerate(zip(rows, places, strict=True)):
        ids[row, list(where)] = torch.tensor(tokens, dtype=torch.long)
        mask[row, list(where)] = True
    return Padded(ids, mask, [list(where) for where in places])


def pad_at_end(rows: Sequence[Sequence[int]], filler: int = 0) -> Padded:
    """Lay rows out from the first column on."""
    return lay_out(rows, [range(len(row)) for row in rows], max(len(row) for row in rows), filler)


tokens = st.integers(0, VOCAB - 1)


def token_rows(min_rows: int = 1, max_rows: int = 4, min_tokens: int = 1, max_tokens: int = 8) -> st.SearchStrategy:
    """Strategy of batches of rows of different lengths."""
    row = st.lists(tokens, min_size=min_tokens, max_size=max_tokens)
    return st.lists(row, min_size=min_rows, max_size=max_rows)


@st.composite
def padded_rows(draw: st.DrawFn, rows: Sequence[Sequence[int]]) -> Padded:
    """Strategy of layouts of these rows: padding at the end, at the start, or anywhere, of any token."""
    width = max(len(row) for row in rows) + draw(st.integers(0, 4))
    where = draw(st.sampled_from(["end", "start", "anywhere"]))
    places = []
    for row in rows:
        if where == "anywhere":
            chosen = draw(st.permutations(range(width)))[: len(row)]
            places.append(sorted(chosen))
        else:
            offset = 0 if where == "end" else width - len(row)
            places.append(list(range(offset, offset + len(row))))
    return lay_out(rows, places, width, filler=draw(tokens))


@st.composite
def padded_batches(draw: st.DrawFn, **sizes: int) -> tuple[list[list[int]], Padded]:
    """Strategy of batches of rows together with a layout of them."""
    rows = draw(token_rows(**sizes))
    return rows, draw(padded_rows(rows))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """Check that two tensors hold the same finite numbers, up to rounding."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)
    assert actual.isfinite().all()


def assert_same_memory(actual: MemoryState, expected: MemoryState, tolerance: float = 1e-9) -> None:
    """Check that two memories hold the same numbers, up to rounding."""
    found, wanted = actual.tensors(), expected.tensors()
    assert found.keys() == wanted.keys()
    for name, values in found.items():
        assert_close(values, wanted[name], tolerance)


def all_read(memory: MemoryState) -> MemoryState:
    """Return a memory of tokens without tokens that are still to be read; one of slots as it is."""
    if not isinstance(memory, RetainedState):
        return memory
    return replace(memory, unread=torch.full_like(memory.unread, -1))


def answers(columns: Sequence[Column], end_tokens: Sequence[int] = ()) -> list[list[int]]:
    """Each row's generated tokens, without padding and without the end token."""
    rows = zip(*[zip(column.tokens.tolist(), column.active.tolist(), strict=True) for column in columns], strict=True)
    return [[token for token, active in row if active and token not in end_tokens] for row in rows]


def whole_turns(prompt: Prompt, columns: Sequence[Column], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (B, T) of prompts followed by what was generated."""
    return padded([[*start, *end] for start, end in zip(prompt.rows(), answers(columns), strict=True)], pad_token_id)
