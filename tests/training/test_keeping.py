"""A pretrained language model with a memory: what of it learns, which answers count, and where it keeps to itself."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rxlm.config import ConfigError
from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.memory import SlotState
from rxlm.training.keeping import keeping_loss, memory_readers, with_kept_turns, with_some_answers, with_some_words
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.turns import Turns
from training_runs import encoder, model

TOLD = Interaction("My dog is called Rex.", "I would like to meet Rex.")
SAID = Interaction("It is raining again.", "Dogs are animals.", is_reference=False)
ASKED = Interaction("What is my dog called?", "Your dog is called Rex.", question=Question("dog", ("Rex",), 1))
SETTINGS = MemoryAwareConfig(unroll=4, pretrained=True, keep=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turns(*rows: tuple[Interaction, ...]) -> Turns:
    return Turns.of(encoder().dialogue_batch([Dialogue(row) for row in rows]))


def answered(batch: Turns) -> list[list[bool]]:
    return batch.answer_mask.any(dim=2).tolist()


def test_questions_are_always_answered_and_what_is_no_reference_never() -> None:
    batch = turns((TOLD, SAID, ASKED), (SAID, TOLD))
    assert answered(with_some_answers(batch, 1.0, generator())) == [[True, False], [False, True], [True, False]]
    assert answered(with_some_answers(batch, 1e-9, generator())) == [[False, False], [False, False], [True, False]]
    many = turns(*[(TOLD, TOLD)] * 200)
    share = with_some_answers(many, 0.25, generator()).answer_mask.any(dim=2).float().mean()
    assert 0.2 < share < 0.3


def test_what_names_the_value_is_always_predicted_and_a_share_of_the_other_words() -> None:
    many = turns(*[(TOLD, ASKED)] * 200)
    assert many.value_mask is not None
    thinned = with_some_words(many, 0.25, generator())
    assert (thinned.answer_mask & many.value_mask).sum() == many.value_mask.sum() > 0
    others = many.answer_mask & ~many.value_mask
    assert 0.22 < (thinned.answer_mask & others).sum() / others.sum() < 0.28
    assert not (thinned.answer_mask & ~many.answer_mask).any()
    assert with_some_words(many, 1.0, generator()) is many
    with pytest.raises(ValueError, match="wording_share below 1 needs turns that say what they ask for"):
        with_some_words(replace(many, value_mask=None), 0.25, generator())


def test_stage_4_predicts_the_share_of_words_that_its_settings_say() -> None:
    batch = encoder().dialogue_batch([Dialogue((TOLD, ASKED))])
    kept, thinned = (
        MemoryAware(model(), MemoryAwareConfig(wording_share=share)).prepare(batch, generator())
        for share in (1.0, 1e-9)
    )
    assert thinned.value_mask is not None
    assert torch.equal(thinned.answer_mask, thinned.value_mask)
    assert kept.answer_mask.sum() > thinned.answer_mask.sum() > 0


def test_what_is_no_reference_is_kept_but_for_the_first_turn_of_a_conversation() -> None:
    batch = turns((SAID, SAID, ASKED), (TOLD, SAID))
    kept = with_kept_turns(batch, 1.0, generator()).kept
    assert kept is not None
    assert kept.turns.tolist() == [2, 3]  # turn 1 of both
    fresh = torch.tensor([[True, True], [True, False], [False, False]])
    kept = with_kept_turns(replace(batch, fresh=fresh), 1.0, generator()).kept
    assert kept is not None
    assert kept.turns.tolist() == [3]
    kept = with_kept_turns(batch, 1.0, generator(), first_turns=True).kept
    assert kept is not None
    assert kept.turns.tolist() == [0, 2, 3]


@torch.no_grad()
def test_the_loss_is_the_divergence_from_the_model_without_its_memory() -> None:
    network = model().double()
    batch = with_kept_turns(turns((TOLD, SAID, SAID), (TOLD, TOLD, SAID)), 1.0, generator())
    assert batch.kept is not None
    slots = torch.randn(2, 6, 4, 16, dtype=torch.double)
    reading = SlotState(slots).read()
    found = keeping_loss(network, network.decoder, batch.kept, reading)

    expected = torch.zeros((), dtype=torch.double)
    for turn in batch.kept.turns.tolist():
        ids = batch.ids.flatten(0, 1)[turn][batch.mask.flatten(0, 1)[turn]][None]
        memory = network.init_memory(1)
        with_memory = network.decode(ids, type(memory)(slots[:, turn : turn + 1]))[0, :-1].log_softmax(-1)
        own = network.decode(ids, None)[0, :-1].log_softmax(-1)
        expected += F.kl_div(with_memory, own, reduction="sum", log_target=True)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_only_the_reading_and_writing_of_the_memory_gets_a_gradient() -> None:
    module = MemoryAware(model(), SETTINGS)
    module.train()
    module.start_step(0)
    batch = module.prepare(encoder().dialogue_batch([Dialogue((TOLD, SAID, ASKED))]), generator())
    losses = module(batch, module.counts(batch))
    losses.total.backward()
    assert losses.figures["keeping_loss"] > 0
    readers = {id(parameter) for part in memory_readers(module.model.decoder) for parameter in part.parameters()}
    for name, parameter in module.named_parameters():
        learns = id(parameter) in readers or "memory_writer" in name or name.startswith("model.encoder.layers")
        assert (parameter.grad is not None) == learns, name


def test_where_layers_learn_what_is_kept_to_is_the_language_model_before() -> None:
    network = model(initial_memory="zeros")
    module = MemoryAware(network, SETTINGS.replace(learned_share=0.5))
    module.start_step(0)
    batch = module.prepare(encoder().dialogue_batch([Dialogue((SAID, ASKED))]), generator())
    assert module(batch, module.counts(batch)).figures["keeping_loss"] == 0  # a first turn, whose memory is empty
    before = [parameter.clone() for parameter in module.language_model.parameters()]
    with torch.no_grad():
        network.decoder.layers[-1].feed_forward.out_proj.weight.add_(1.0)
    losses = module(batch, module.counts(batch))
    assert losses.figures["keeping_loss"] > 0
    losses.total.backward()
    assert network.decoder.layers[-1].feed_forward.out_proj.weight.grad is not None
    for was, parameter in zip(before, module.language_model.parameters(), strict=True):
        assert torch.equal(was, parameter)
        assert parameter.grad is None
    assert not any("language_model" in name for name, _ in module.named_parameters())  # nor saved with it


def test_a_batch_in_which_nothing_counts_is_no_error() -> None:
    module = MemoryAware(model(), SETTINGS.replace(keep=0.0, answer_share=1e-9))
    module.start_step(0)
    batch = module.prepare(encoder().dialogue_batch([Dialogue((TOLD, SAID))]), generator())
    losses = module(batch, {"answer": 1.0})
    losses.total.backward()
    assert losses.total == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": False}, "keep=0.5 is for pretrained language models"),
        ({"pretrained": False, "keep": 0.0, "learned_share": 1}, "learned_share=1 is for pretrained"),
        ({"answer_share": 0.0}, "answer_share must be above 0"),
        ({"wording_share": 1.5}, "wording_share must be above 0 and at most 1, got 1.5"),
        ({"learned_share": 1.5}, "learned_share must be between 0 and 1, got 1.5"),
        ({"keep": -1.0}, "keep must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SETTINGS.replace(**changes)


@pytest.mark.parametrize(("share", "learns"), [(0.0, []), (0.1, [1]), (0.5, [1]), (0.6, [0, 1])])
def test_the_last_layers_learn_where_a_share_of_them_is_to(share: float, learns: list[int]) -> None:
    module = MemoryAware(model(), SETTINGS.replace(learned_share=share))
    module.start_step(0)
    layers = module.model.decoder.layers
    assert [number for number, layer in enumerate(layers) if layer.attention.q_proj.weight.requires_grad] == learns
