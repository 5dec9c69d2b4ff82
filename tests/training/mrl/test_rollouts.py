"""What a policy plays is what it would say, its log-probabilities are those of the update, and rows do not meet."""

import math
from dataclasses import replace

import pytest
import torch

from mrl_runs import BOOK, REWARDS, encoder, player, rollout, settings, talker
from rxlm.data.records import Dialogue
from rxlm.data.templates import query_ids
from rxlm.memory import SlotState
from rxlm.training.mrl.module import MemoryReinforcement, rollout_figures
from rxlm.training.mrl.rewards import Reward, RewardError, Rewards
from rxlm.training.mrl.rollout import Rollout, join
from rxlm.training.turns import Turns


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("memory_from", ["generated", "reference"])
def test_log_probabilities_of_a_rollout_are_those_of_a_naive_reading(temperature: float, memory_from: str) -> None:
    network = talker()
    chosen = settings(temperature=temperature, memory_from=memory_from)
    played = rollout(network, chosen)
    assert len({int(length) for length in played.answered.sum(2).flatten()}) > 2  # early stops and padding

    for row in range(played.batch_size):
        memory = network.init_memory(1)
        for turn in range(played.num_turns):
            length = int(played.mask[turn, row].sum())
            if not length:
                continue
            ids = played.ids[turn, row, :length][None]
            scores = (network.decode(ids, memory)[0] / temperature).log_softmax(-1)
            for place in played.answered[turn, row].nonzero()[:, 0].tolist():
                expected = float(scores[place - 1, ids[0, place]])
                assert float(played.log_probs[turn, row, place]) == pytest.approx(expected, abs=1e-5)
            said = played.memory_turns
            told = int(said.mask[turn, row].sum())
            memory = network.update_memory(memory, said.ids[turn, row, :told][None])


@torch.no_grad()
@pytest.mark.parametrize("chosen", [settings(), settings(plays="questions"), settings(memory_from="reference")])
def test_log_probabilities_of_a_rollout_are_those_that_the_update_computes(chosen) -> None:
    module = MemoryReinforcement(talker(), chosen)
    played = module.annotate(rollout(module.policy, chosen))
    module.train()
    losses = module(played, module.counts(played))

    states, _, _ = module._states(module.model, played)
    found = module._scores(module.model, states).gather(1, played.ids[played.answered][:, None])[:, 0]
    torch.testing.assert_close(found, played.log_probs[played.answered], atol=1e-5, rtol=0)
    assert losses.figures["clip_ratio/region_mean"] == 0


def test_rows_are_independent_and_seeds_repeat() -> None:
    network, chosen = talker(), settings()
    together = rollout(network, chosen)
    alone, _ = player(network, chosen).play([Dialogue(BOOK[0].turns[:4])], seed=0)

    for turn in range(4):
        length = int(alone.mask[turn, 0].sum())
        assert torch.equal(together.ids[turn, 0, :length], alone.ids[turn, 0, :length])
        assert int(together.mask[turn, 0].sum()) == length
    again = rollout(network, chosen)
    assert torch.equal(again.ids, together.ids)
    assert not torch.equal(rollout(network, chosen, seed=1).ids, together.ids)


def test_warm_up_is_told_and_questions_alone_are_asked() -> None:
    network = talker()
    chosen = settings(warmup_turns=2)
    played = rollout(network, chosen)
    assert not played.answered[:2].any()
    assert not played.earns[:2].any()
    assert played.answered[2:].any()
    expected = [turn.answer for turn in BOOK[0].turns[:2]]
    assert [words.answer for words in played.words[0][:2]] == expected

    for turn, row in ((0, 0), (1, 3)):
        encoded = encoder(network).encode(BOOK[row].turns[turn])
        told = played.told[turn, row].nonzero()[:, 0].tolist()
        assert told == list(range(encoded.first_target, encoded.end_of_targets))
    assert not (played.told & played.answered).any()
    assert (played.told.any(dim=2) | played.answered.any(dim=2)).equal(played.mask.any(dim=2))

    asked = rollout(network, settings(plays="questions", warmup_turns=0), rows=20)
    for row, dialogue in enumerate(BOOK[:20]):
        for turn, interaction in enumerate(dialogue.turns[: 4 - row % 2]):
            assert bool(asked.answered[turn, row].any()) == (interaction.question is not None)


def test_episodes_that_go_on_begin_with_the_memory_that_was_left() -> None:
    network, chosen = talker(initial_memory="learned"), settings()
    _, after = player(network, chosen).play(BOOK[:2], seed=0)
    fresh = torch.tensor([True, False])
    going_on, _ = player(network, chosen).play(BOOK[2:4], seed=1, carried=after, fresh=fresh)

    assert going_on.start is not None
    assert torch.equal(going_on.start.select(1).slots[:, 0], after.slots[:, 1])
    module = MemoryReinforcement(network, chosen)
    with torch.no_grad():
        _, before, _ = module._states(network, going_on)
    first = before.slots.unflatten(1, (going_on.num_turns, 2))[:, 0]
    assert torch.equal(first[:, 1], after.slots[:, 1])
    assert torch.equal(first[:, 0], network.init_memory(1).slots[:, 0])


def test_a_rollout_survives_a_checkpoint_and_a_choice_of_rows() -> None:
    network = talker()
    chosen = settings(memory_from="reference")
    module = MemoryReinforcement(network, chosen)
    played = module.annotate(rollout(network, chosen))
    again = Rollout.from_state_dict(played.state_dict())
    same = played.rows(range(played.batch_size))
    whole = join([played.rows([0, 1]), played.rows([2, 3])])

    for other in (again, same, whole):
        for name, value in vars(played).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(other, name), value, equal_nan=True)
        for name, value in played.by_name.items():
            torch.testing.assert_close(other.by_name[name], value, equal_nan=True)
        assert torch.equal(other.memory_turns.ids, played.memory_turns.ids)
    assert played.rows([3]).words == played.words[3:]


def test_rollouts_of_other_lengths_are_padded_to_each_other() -> None:
    network, chosen = talker(), settings()
    long, short = rollout(network, chosen), player(network, chosen).play([Dialogue(BOOK[7].turns[:2])], seed=3)[0]
    both = join([long, short])

    assert both.batch_size == long.batch_size + 1
    assert torch.equal(both.mask[:2, -1].sum(1), short.mask[:, 0].sum(1))
    assert not both.mask[2:, -1].any()
    assert all(values[2:, -1].isnan().all() for values in both.by_name.values())


def test_a_failing_reward_stops_the_play_by_its_name() -> None:
    rewards = Rewards(
        [Reward("fine", lambda turn: [1.0] * len(turn)), Reward("broken", lambda turn: [math.nan] * len(turn))]
    )
    network = talker().train()
    with pytest.raises(RewardError, match="broken"):
        player(network, settings(), rewards).play(BOOK[:2], seed=0)
    assert network.training  # not left in evaluation mode


def test_the_memory_of_the_model_is_left_alone() -> None:
    network = talker()
    network.train()
    memory = SlotState(network.init_memory(2).slots.clone())
    player(network, settings()).play(BOOK[:2], seed=0, carried=memory, fresh=torch.tensor([False, False]))
    assert network.training
    assert torch.equal(memory.slots, network.init_memory(2, seed=0).slots) or memory.slots.shape[1] == 2


def test_turns_as_played_are_those_that_are_remembered_unless_references_are() -> None:
    played = rollout(talker(), settings())
    assert isinstance(played.memory_turns, Turns)
    assert torch.equal(played.memory_turns.ids, played.ids)
    assert replace(played, remembered=None).memory_turns.fresh is None
    assert {reward.name for reward in REWARDS.rewards} == set(played.by_name)


def test_a_query_is_whole_however_long_an_answer_may_be() -> None:
    network = talker()
    chosen = settings(max_answer_tokens=network.max_seq_len)
    played = player(network, chosen).play(BOOK[:2], seed=0)[0]
    encode = encoder(network)
    for row, dialogue in enumerate(BOOK[:2]):
        for number, turn in enumerate(dialogue.turns):
            query = query_ids(encode.tokenizer, encode.tokens, turn.query)
            assert played.ids[number, row, : len(query)].tolist() == query


def test_what_a_query_lost_is_counted() -> None:
    network, chosen = talker(), settings(warmup_turns=0)
    query = " ".join(["dog"] * network.max_seq_len)
    short = BOOK[0].turns[0]
    long = Dialogue([replace(short, query=query)])
    played = player(network, chosen).play([long, Dialogue([short])], seed=0)[0]
    encode = encoder(network)
    prompt = int(played.mask[0, 0].sum() - played.answered[0, 0].sum()) - len(encode.tokens.before_answer)

    assert played.cut.tolist() == [[len(query_ids(encode.tokenizer, encode.tokens, query)) - prompt, 0]]
    figures = rollout_figures(played, MemoryReinforcement(network, chosen).counts(played))
    assert float(figures["truncated/tokens"]) == int(played.cut[0, 0]) / 2


def test_any_seed_plays_and_each_plays_otherwise() -> None:
    network, chosen = talker(), settings()
    played = [player(network, chosen).play(BOOK[:3], seed=seed)[0].ids.tolist() for seed in (0, 1, 2**62, 10**30)]

    assert len(set(map(str, played))) == len(played)
