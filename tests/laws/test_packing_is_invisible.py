"""Documents packed into one row are to the models as if each were alone: outputs, losses and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import WITH_SLOTS, assert_close, build, shared_model, some_ids, some_memory, tokens
from rxlm.data.packing import PackedBatch
from rxlm.memory import MemoryReading, SlotState
from rxlm.nn.key_values import KeyValueSource
from rxlm.nn.moe import Routing
from rxlm.training.joint import JointConfig, JointLanguageModelling, MaskedBatch

every_architecture = pytest.mark.parametrize("name", WITH_SLOTS)
trainable = pytest.mark.parametrize("name", [name for name in WITH_SLOTS if "encoder-reads-memory" not in name])

document = st.lists(tokens, min_size=1, max_size=7)
packed_rows = st.lists(st.lists(document, min_size=1, max_size=3), min_size=1, max_size=3)
Place = tuple[int, slice]
FIELDS = ("ids", "masked_ids", "chosen", "targets", "mask")


def pack(rows: list[list[list[int]]], padding: int = 0) -> tuple[PackedBatch, list[Place]]:
    """Lay documents out one after another in their rows; also say in which row and where each one stands."""
    width = max(sum(map(len, row)) for row in rows) + padding
    ids, segments, positions = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    places = []
    for number, row in enumerate(rows):
        start = 0
        for index, text in enumerate(row):
            place = slice(start, start + len(text))
            ids[number, place] = torch.tensor(text)
            segments[number, place] = index + 1
            positions[number, place] = torch.arange(len(text))
            places.append((number, place))
            start = place.stop
    return PackedBatch(ids, segments, positions), places


def alone(values: Tensor, place: Place) -> Tensor:
    """The part of `values` (B, T) that is one document, (1, n)."""
    row, where = place
    return values[row : row + 1, where]


@every_architecture
@given(rows=packed_rows, padding=st.integers(0, 3))
@torch.no_grad()
def test_the_encoder_sees_each_document_as_if_it_were_alone(name, rows, padding):
    model, (batch, places) = shared_model(name), pack(rows, padding)
    memory = some_memory(model, range(len(rows)))
    encoded = model.encoder(batch.ids, memory=memory, segments=batch.segments)
    for row, where in places:
        expected = model.encoder(alone(batch.ids, (row, where)), memory=memory.select(row))
        assert_close(encoded[:, row : row + 1, where], expected)


@every_architecture
@given(rows=packed_rows, padding=st.integers(0, 3))
@torch.no_grad()
def test_the_decoder_sees_each_document_as_if_it_were_alone(name, rows, padding):
    """With one memory for all documents of a row, and with slots that belong to a document each."""
    model, (batch, places) = shared_model(name), pack(rows, padding)
    memory = some_memory(model, range(len(rows)))
    hidden = model.decoder.hidden_states(batch.ids, memory, segments=batch.segments)
    slots = torch.randn(memory.num_layers, *batch.ids.shape, memory.slots.shape[3], dtype=model.dtype)
    same_document = batch.segments[:, :, None] == batch.segments[:, None, :]
    own = MemoryReading(tuple(KeyValueSource(own, mask=same_document) for own in slots.unbind(0)))
    own_hidden = model.decoder.hidden_states(batch.ids, own, segments=batch.segments)
    for row, where in places:
        ids = alone(batch.ids, (row, where))
        assert_close(hidden[row : row + 1, where], model.decoder.hidden_states(ids, memory.select(row)))
        own_memory = SlotState(slots[:, row : row + 1, where])
        assert_close(own_hidden[row : row + 1, where], model.decoder.hidden_states(ids, own_memory))


def stage(name: str, **settings: float) -> JointLanguageModelling:
    torch.manual_seed(0)
    return JointLanguageModelling(build(name), JointConfig(targets="all", noise=0.0, **settings)).double()


def gradients(module: JointLanguageModelling, *batches: MaskedBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The summed figures of batches that together are a step, and the gradients of its loss."""
    module.zero_grad()
    totals = {"answer": 10.0, "masked": 10.0}
    figures: dict[str, Tensor] = {}
    for batch in batches:
        losses = module(batch, totals)
        losses.total.backward()
        for key, value in {"loss": losses.total.detach(), **losses.figures}.items():
            figures[key] = figures.get(key, torch.zeros(())) + value
    return figures, {key: value.grad.clone() for key, value in module.named_parameters() if value.grad is not None}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], atol=1e-9, rtol=1e-9, msg=key)


@trainable
@pytest.mark.parametrize("seed", [0, 1])
def test_stage_1_on_packed_text_is_stage_1_on_its_documents_one_by_one(name, seed):
    module = stage(name, load_balancing=0.0)
    lengths = [[5, 1, 9], [2, 7], [11]]
    batch, places = pack([[some_ids(1, n, 10 * seed + n)[0].tolist() for n in row] for row in lengths], padding=2)
    packed = module.prepare(batch, torch.Generator().manual_seed(seed))
    parts = [MaskedBatch(*(alone(getattr(packed, field), place) for field in FIELDS)) for place in places]
    one, other = gradients(module, packed), gradients(module, *parts)
    for figures in (one[0], other[0]):
        figures.pop("load_balancing_loss", None)  # no sum over documents
    assert_same(one[0], other[0])
    assert_same(one[1], other[1])


@trainable
def test_stage_1_on_packed_text_is_stage_1_on_a_padded_batch_of_its_documents(name):
    """So that experts are balanced over the same tokens, too."""
    module = stage(name, load_balancing=0.3)
    lengths = [[5, 1, 9], [2, 7], [11]]
    batch, places = pack([[some_ids(1, n, n)[0].tolist() for n in row] for row in lengths], padding=2)
    packed = module.prepare(batch, torch.Generator().manual_seed(3))

    def one_a_row(values: Tensor) -> Tensor:
        laid_out = values.new_zeros(len(places), max(map(max, lengths)))
        for number, (row, where) in enumerate(places):
            laid_out[number, : where.stop - where.start] = values[row, where]
        return laid_out

    padded = MaskedBatch(*(one_a_row(getattr(packed, field)) for field in FIELDS))
    one, other = gradients(module, packed), gradients(module, padded)
    assert_same(one[0], other[0])
    assert_same(one[1], other[1])


@every_architecture
@torch.no_grad()
def test_one_segment_a_row_is_a_mask(name):
    model, mask = shared_model(name), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    ids, memory = some_ids(2, 5), some_memory(model, range(2))
    routings = Routing(mask=mask), Routing(mask=mask)
    one = model.decoder.hidden_states(ids, memory, mask, routing=routings[0])
    other = model.decoder.hidden_states(ids, memory, segments=mask, routing=routings[1])
    assert_close(one[mask.bool()], other[mask.bool()])
    if routings[0].losses:
        assert_close(routings[0].loss(), routings[1].loss())


def test_segments_and_a_mask_are_not_both_taken():
    model, ids = shared_model("mha-simple-content"), some_ids(2, 5)
    ones = torch.ones_like(ids)
    with pytest.raises(ValueError, match="give them or an attention mask, not both"):
        model.encoder(ids, ones, segments=ones)
    with pytest.raises(ValueError, match=r"The segments have shape \(2, 4\), the token ids \(2, 5\)"):
        model.decoder.hidden_states(ids, some_memory(model, range(2)), segments=ones[:, 1:])


def test_text_has_no_answers_to_be_predicted_alone():
    module = JointLanguageModelling(build(), JointConfig(targets="answer"))
    batch, _ = pack([[[9, 10, 11]]])
    with pytest.raises(ValueError, match="targets must be 'all', got 'answer'"):
        module.prepare(batch, torch.Generator())
