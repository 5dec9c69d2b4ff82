"""Law 6: a closed gate leaves memory untouched; attention with all its heads is ordinary multi-head attention."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import (
    ARCHITECTURES,
    Architecture,
    assert_close,
    build,
    configuration,
    pad_at_end,
    randomise,
    some_ids,
    some_memory,
)
from rxlm.memory.slots.config import VARIANTS
from rxlm.memory.slots.gate import (
    GATES,
    ContentGate,
    ElementwiseGate,
    LinearGate,
    ResidualGate,
    SlotGate,
    StaticGate,
    make_gate,
)
from rxlm.rxt.models import RxTAlpha

SIGMOID_GATES = [gate for gate in GATES if gate != "none"]
FAR = 1e5  # sigmoid(-1e5) is exactly 0 in floating point


@torch.no_grad()
def set_opening(gate: ResidualGate, score: float) -> None:
    """Set a gate's parameters so that its score is this for every state, or (elementwise) for a z of ones."""
    match gate:
        case StaticGate() | ElementwiseGate():
            gate.weight.fill_(score)
        case LinearGate() | ContentGate():
            gate.linear.weight.zero_()
            gate.linear.bias.fill_(score)
        case SlotGate(linear=None):
            gate.weight.fill_(score)
            if gate.status is not None:
                gate.status.weight.zero_()
                gate.status.bias.fill_(1.0)
        case SlotGate():
            gate.linear.weight.zero_()
            gate.linear.bias.fill_(score)


def with_gate(kind: str, variant: str, score: float, **gate: object) -> RxTAlpha:
    """Return a model of that gate whose residual gates all have that score; its mixing gates stay random."""
    groups = {"num_groups": 2} if variant.startswith("grouped") else {}
    memory = {"variant": variant, "gate": kind, **groups, **gate}
    model = build(Architecture(num_layers=2, memory=memory))
    for layer in model.memory_writer.layers:
        set_opening(layer.write_gate, score)
        if variant != "simple":
            set_opening(layer.consolidation_gate, score)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "gate",
    [
        {"kind": "static"},
        {"kind": "static", "gate_per_slot": False},
        {"kind": "linear"},
        {"kind": "slot-elementwise", "gate_status": "linear"},
        {"kind": "slot-linear"},
        {"kind": "slot-linear", "gate_per_slot": False},
        {"kind": "content"},
    ],
    ids=str,
)
@torch.no_grad()
def test_closed_gates_leave_memory_untouched_to_the_last_bit(variant, gate):
    model = with_gate(variant=variant, score=-FAR, **gate)
    memory, (ids, mask, _) = some_memory(model, [0, 1]), pad_at_end([[9, 10, 11, 12], [13, 14]])
    assert torch.equal(model.update_memory(memory, ids, mask).slots, memory.slots)


@pytest.mark.parametrize("kind", SIGMOID_GATES)
@given(seed=st.integers(0, 1000))
def test_every_sigmoid_gate_can_close_and_open_fully(kind, seed):
    """For the elementwise kinds the sign of z matters: here z is positive."""
    generator = torch.Generator().manual_seed(seed)
    old, update = torch.rand(2, 2, 6, 16, generator=generator, dtype=torch.float64) + 0.1
    gate = make_gate(kind, 16, 6).double()
    set_opening(gate, -FAR)
    assert torch.equal(gate(old, update), old)
    set_opening(gate, FAR)
    assert torch.equal(gate(old, update), update)


@pytest.mark.parametrize("kind", SIGMOID_GATES)
@pytest.mark.parametrize("per_slot", [True, False])
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.1, 1.0, 30.0]))
def test_a_sigmoid_gate_stays_between_old_and_update(kind, per_slot, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    old, update = torch.randn(2, 3, 6, 16, generator=generator, dtype=torch.float64) * scale
    gate = randomise(make_gate(kind, 16, 6, per_slot=per_slot).double(), seed)
    with torch.no_grad():
        new = gate(old, update)
    slack = 1e-12 * scale
    assert (new >= torch.minimum(old, update) - slack).all()
    assert (new <= torch.maximum(old, update) + slack).all()


def test_without_bounds_memory_grows_and_with_them_it_does_not():
    """64 updates by one interaction: sigmoid gates stay among the values they have seen, the others run away."""
    ids = some_ids(1, 6)
    largest = {}
    for name, gate in (("sigmoid", {"kind": "static"}), ("tanh", {"kind": "static", "gate_activation": "tanh"})):
        model = with_gate(variant="simple", score=0.5, **gate)
        memory = some_memory(model, [0])
        with torch.no_grad():
            for _ in range(64):
                memory = model.update_memory(memory, ids)
        largest[name] = memory.slots.abs().max()
    assert largest["sigmoid"] < 10 < largest["tanh"]


@torch.no_grad()
def test_the_mixing_gate_leads_from_the_slots_own_layer_to_the_mean_over_layers():
    """self-interlayer memory attention is `self` where its mixing gate is closed, and `interlayer` where it is open."""
    ids = some_ids(2, 5)
    model = build(Architecture(memory={"variant": "self-interlayer", "gate": "linear"}))
    memory = some_memory(model, [0, 1])
    for score, variant in ((-FAR, "self"), (FAR, "interlayer")):
        for layer in model.memory_writer.layers:
            set_opening(layer.mix_gate, score)
        other = build(Architecture(memory={"variant": variant, "gate": "linear"}))
        other.load_state_dict(model.state_dict(), strict=False)
        assert_close(model.update_memory(memory, ids).slots, other.update_memory(memory, ids).slots)


@torch.no_grad()
def test_one_group_of_all_layers_is_self_interlayer():
    models = [
        build(Architecture(memory={"variant": "self-interlayer"})),
        build(Architecture(memory={"variant": "grouped-self-interlayer", "num_groups": 1})),
    ]
    memory, ids = some_memory(models[0], [0, 1]), some_ids(2, 5)
    one, other = (model.update_memory(memory, ids).slots for model in models)
    assert torch.equal(one, other)


def expanded_heads(weights: dict[str, torch.Tensor], name: str, heads: int, repeats: int, interleaved: bool) -> None:
    """Repeat the heads of a projection: each one `repeats` times in a row, or all of them in turn."""
    weight = weights[name].unflatten(0, (heads, -1))
    weight = weight.repeat_interleave(repeats, dim=0) if interleaved else weight.repeat(repeats, 1, 1)
    weights[name] = weight.flatten(0, 1)


@pytest.mark.parametrize(("query_heads", "kv_heads"), [(4, 4), (4, 2), (4, 1), (2, 4), (1, 4)])
@torch.no_grad()
def test_sparse_query_attention_with_all_heads_equals_multi_head_attention(query_heads, kv_heads):
    """In the whole model: fewer heads are heads that repeat. Key head j serves queries 2j and 2j+1, query j mod Hq."""
    counts = {"num_query_heads": query_heads, "num_kv_heads": kv_heads}
    sparse = build(Architecture(shared=counts, memory=counts | {"variant": "interlayer"}))
    whole = RxTAlpha(**configuration(Architecture(memory={"variant": "interlayer"}))).double().eval()
    weights = sparse.state_dict()
    for name in weights:
        if name.endswith("q_proj.weight") and query_heads < kv_heads:
            expanded_heads(weights, name, query_heads, kv_heads // query_heads, interleaved=False)
        if name.endswith(("k_proj.weight", "v_proj.weight")) and kv_heads < query_heads:
            expanded_heads(weights, name, kv_heads, query_heads // kv_heads, interleaved=True)
    whole.load_state_dict(weights)
    ids, memory = some_ids(2, 7), some_memory(sparse, [0, 1])
    assert_close(sparse.decode(ids, memory), whole.decode(ids, memory))
    assert_close(sparse.update_memory(memory, ids).slots, whole.update_memory(memory, ids).slots)


def test_the_architectures_of_these_tests_cover_every_variant_and_gate():
    memories = [architecture.memory for architecture in ARCHITECTURES.values() if not architecture.retains]
    assert {memory["variant"] for memory in memories} == set(VARIANTS)
    assert {memory["gate"] for memory in memories if "gate" in memory} == set(GATES)
