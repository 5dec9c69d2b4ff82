"""Law 2: padding is invisible, any amount of any token, at the end, at the start and in the middle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import (
    ARCHITECTURES,
    assert_close,
    assert_same_memory,
    lay_out,
    pad_at_end,
    padded_batches,
    padded_rows,
    shared_model,
    some_memory,
    token_rows,
)
from rxlm.nn.moe import Routing

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@every_architecture
@given(data=st.data(), rows=token_rows())
@torch.no_grad()
def test_two_layouts_of_the_same_rows_give_the_same(name, data, rows):
    model, memory = shared_model(name), some_memory(shared_model(name), range(len(rows)))
    one, other = data.draw(padded_rows(rows)), data.draw(padded_rows(rows))
    logits = [model.decode(layout.ids, memory, layout.mask) for layout in (one, other)]
    updated = [model.update_memory(memory, layout.ids, layout.mask) for layout in (one, other)]
    for row in range(len(rows)):
        assert_close(one.row(logits[0], row), other.row(logits[1], row))
    assert_same_memory(*updated)
    if model.memory_writer.reads_encoded:
        encoded = [model.encode(layout.ids, layout.mask, memory) for layout in (one, other)]
        for row in range(len(rows)):
            assert_close(one.row(encoded[0], row), other.row(encoded[1], row))


@every_architecture
@given(batch=padded_batches(max_tokens=7))
@torch.no_grad()
def test_an_interaction_may_be_padded_with_a_mask_of_any_type(name, batch):
    """Tokenizers give masks of 0 and 1, people write True and False."""
    model, (rows, padded) = shared_model(name), batch
    memory = some_memory(model, range(len(rows)))
    for mask in (padded.mask.long(), padded.mask.double()):
        assert torch.equal(model.decode(padded.ids, memory, mask), model.decode(padded.ids, memory, padded.mask))
        updated = model.update_memory(memory, padded.ids, mask)
        assert_same_memory(updated, model.update_memory(memory, padded.ids, padded.mask), 0.0)


@every_architecture
@given(rows=token_rows())
@torch.no_grad()
def test_padding_at_the_end_needs_no_mask_to_be_invisible_to_the_decoder(name, rows):
    model, padded = shared_model(name), pad_at_end(rows)
    memory = some_memory(model, range(len(rows)))
    masked, unmasked = model.decode(padded.ids, memory, padded.mask), model.decode(padded.ids, memory)
    for row in range(len(rows)):
        assert_close(padded.row(unmasked, row), padded.row(masked, row))


@every_architecture
@given(data=st.data(), rows=token_rows(max_rows=3))
def test_padding_of_queries_changes_no_answer_and_no_memory(name, data, rows):
    """Also when a user's batch is padded at the start, as decoder-only language models have it."""
    model = shared_model(name)
    model.set_batch_mode(True, len(rows))
    memory = some_memory(model, range(len(rows)))
    results = []
    for layout in (pad_at_end(rows), data.draw(padded_rows(rows))):
        model.load_stm_state(memory)
        answers = model.batch_interactions(
            layout.ids, layout.mask, max_seq_len=14, temperature=1.2, top_p=0.9, repetition_penalty=1.1, seed=5
        )
        results.append((answers, model.current.get()))
    assert results[0][0] == results[1][0]
    assert_same_memory(results[0][1], results[1][1])


@pytest.mark.parametrize("name", ["mqa-moe-grouped-static", "moe-encoder-reads-memory-linear"])
@given(data=st.data(), rows=token_rows())
@torch.no_grad()
def test_padding_does_not_count_in_the_load_balancing_loss(name, data, rows):
    model, memory = shared_model(name), some_memory(shared_model(name), range(len(rows)))
    one, other = data.draw(padded_rows(rows)), data.draw(padded_rows(rows))
    for network in (model.decoder, model.encoder):
        losses = []
        for layout in (one, other):
            routing = Routing(mask=layout.mask)
            network(layout.ids, mask=layout.mask, memory=memory, routing=routing)
            losses.append(routing.loss())
        if losses[0] is not None:  # not every encoder has experts
            assert_close(*losses)
    alone, unmasked, masked = some_memory(model, [0]), Routing(), Routing(mask=torch.tensor([[1] * len(rows[0]) + [0]]))
    model.decoder(torch.tensor([rows[0]]), alone, routing=unmasked)
    model.decoder(torch.tensor([[*rows[0], 11]]), alone, routing=masked)
    assert_close(masked.loss(), unmasked.loss())


@every_architecture
@given(rows=token_rows(max_rows=3), data=st.data())
@torch.no_grad()
def test_a_row_without_any_real_token_keeps_its_memory(name, rows, data):
    model = shared_model(name)
    empty = data.draw(st.integers(0, len(rows)))
    places = [list(range(len(row))) for row in rows]
    width = max(len(row) for row in rows)
    padded = lay_out([*rows[:empty], [], *rows[empty:]], [*places[:empty], [], *places[empty:]], width, filler=9)
    memory = some_memory(model, range(len(rows) + 1))
    updated = model.update_memory(memory, padded.ids, padded.mask)
    others = [row for row in range(len(rows) + 1) if row != empty]
    without = model.update_memory(memory.select(others), padded.ids[others], padded.mask[others])
    assert_same_memory(updated.select(empty), memory.select(empty), 0.0)
    assert_same_memory(updated.select(others), without.select(range(len(others))))


def test_a_row_without_any_real_token_disturbs_no_gradient():
    model = shared_model("sqa-qknorm-interlayer-slotlinear")
    padded = lay_out([[9, 10, 11], []], [[0, 1, 2], []], 3)
    slots = some_memory(model, [0, 1])
    slots.slots.requires_grad_()
    parameters = [*model.encoder.parameters(), *model.memory_writer.parameters()]
    updated = model.update_memory(slots, padded.ids, padded.mask).slots
    gradients = torch.autograd.grad(updated.square().sum(), [slots.slots, *parameters], allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert_close(gradients[0][:, 1], 2 * slots.slots[:, 1].detach())
