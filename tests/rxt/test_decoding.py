"""The decode loop: which tokens sampling keeps, how likely it draws them, what seeds and prompts do."""

from itertools import islice

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from helpers import VOCAB, answers, assert_close, shared_model, some_ids, some_memory, whole_turns
from rxlm.config import ConfigError
from rxlm.rxt.decoding import generate
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig, choose_tokens, penalise_repetition
from text_models import tiny_text_model

DRAWS = 4000
UNIFORM = (torch.arange(DRAWS) + 0.5) / DRAWS
"""Evenly spread numbers in (0, 1): drawn with them, tokens come exactly as often as they are likely."""

some_logits = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=12, unique=True)
samplings = st.builds(
    SamplingConfig,
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
    top_k=st.none() | st.integers(1, 14),
    top_p=st.none() | st.floats(0.05, 1.0),
    min_p=st.none() | st.floats(0.01, 1.0),
)


def frequencies(sampling: SamplingConfig, logits: Tensor) -> Tensor:
    """Share of each token in evenly spread draws from logits (V,)."""
    drawn = choose_tokens(logits.expand(DRAWS, -1), sampling, UNIFORM)
    return torch.bincount(drawn, minlength=len(logits)) / DRAWS


def naive_probabilities(sampling: SamplingConfig, logits: Tensor) -> Tensor:
    """Token by token: top k, then the nucleus among these, then the floor below the likeliest."""
    scaled = (logits / sampling.temperature).double()
    order = scaled.argsort(descending=True).tolist()[: sampling.top_k]
    weights = torch.zeros_like(scaled)
    weights[order] = scaled[order].exp()
    probabilities = weights / weights.sum()
    kept, mass = [], 0.0
    for token in order:
        if sampling.top_p is None or mass < sampling.top_p:
            kept.append(token)
        mass += float(probabilities[token])
    if sampling.min_p is not None:
        kept = [token for token in kept if probabilities[token] >= sampling.min_p * probabilities[order[0]]]
    final = torch.zeros_like(probabilities)
    final[kept] = probabilities[kept]
    return final / final.sum()


def assume_no_ties(sampling: SamplingConfig, logits: Tensor) -> None:
    """Leave out examples in which rounding decides whether a token is kept."""
    probabilities = (logits / sampling.temperature).double().softmax(-1).sort(descending=True).values
    probabilities = probabilities[: sampling.top_k] / probabilities[: sampling.top_k].sum()
    if sampling.top_p is not None:
        assume((probabilities.cumsum(0) - sampling.top_p).abs().min() > 1e-4)
    if sampling.min_p is not None:
        assume((probabilities / probabilities[0] - sampling.min_p).abs().min() > 1e-4)


@given(values=some_logits, sampling=samplings)
def test_tokens_are_drawn_as_often_as_they_are_likely(values, sampling):
    logits = torch.tensor(values)
    assume_no_ties(sampling, logits)
    torch.testing.assert_close(
        frequencies(sampling, logits).double(), naive_probabilities(sampling, logits), atol=1.1 / DRAWS, rtol=0
    )


@given(values=some_logits, sampling=samplings)
def test_the_kept_tokens_are_those_that_transformers_keeps(values, sampling):
    logits = torch.tensor(values)
    assume_no_ties(sampling, logits)
    processors = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k is not None:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        processors.append(MinPLogitsWarper(sampling.min_p))
    expected = processors(torch.tensor([[0]]), logits[None].clone())[0].softmax(-1)
    torch.testing.assert_close(frequencies(sampling, logits), expected, atol=1.1 / DRAWS, rtol=0)


@given(
    values=st.lists(st.floats(-4, 4, width=32), min_size=8, max_size=8),
    prompt=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    penalty=st.sampled_from([0.7, 1.2, 2.0]),
)
def test_the_repetition_penalty_is_that_of_transformers(values, prompt, penalty):
    logits = torch.tensor(values)
    seen = torch.zeros(1, 8, dtype=torch.bool)
    seen[0, prompt] = True
    penalised = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([prompt]), logits[None].clone())
    torch.testing.assert_close(penalise_repetition(logits[None], seen, penalty), penalised)


def test_the_repetition_penalty_counts_the_answer_so_far_but_no_padding(monkeypatch):
    """Greedy with a strong penalty and equal logits: no token comes twice, and token 0, the padding, counts as new."""
    model = shared_model("mha-simple-content")
    monkeypatch.setattr(model.decoder.head, "forward", lambda hidden: torch.ones(len(hidden), VOCAB))
    prompt = Prompt(torch.tensor([[3, 0, 0], [1, 2, 3]]), [1, 3])
    sampling = SamplingConfig(temperature=0, repetition_penalty=9.0)
    columns = list(islice(model.generate(prompt, some_memory(model, [0, 1]), sampling=sampling, ignore_eos=True), 3))
    assert answers(columns) == [[0, 1, 2], [0, 4, 5]]


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        ({"top_k": 1}, 1),
        ({"top_k": 3}, 3),
        ({"top_k": 99}, 4),
        ({"top_p": 0.49}, 1),
        ({"top_p": 0.51}, 2),
        ({"top_p": 0.74}, 2),
        ({"top_p": 0.76}, 3),
        ({"top_p": 0.91}, 4),
        ({"top_p": 1.0}, 4),
        ({"min_p": 0.51}, 1),
        ({"min_p": 0.49}, 2),
        ({"min_p": 0.31}, 2),
        ({"min_p": 0.29}, 3),
        ({"top_k": 2, "top_p": 0.66}, 1),
        ({"top_k": 2, "top_p": 0.67}, 2),
        ({"temperature": 2.0, "top_p": 0.40}, 2),
        ({"temperature": 0.5, "min_p": 0.26}, 1),
    ],
    ids=str,
)
def test_just_enough_tokens_are_kept(sampling, kept):
    """Of probabilities 0.5, 0.25, 0.15 and 0.1, in a mixed order; the nucleus after top-k is that of the kept ones."""
    probabilities = torch.tensor([0.1, 0.5, 0.15, 0.25])
    found = frequencies(SamplingConfig(**sampling), probabilities.log()) > 0
    assert sorted(probabilities[found].tolist()) == sorted(probabilities.tolist())[-kept:]


@given(values=some_logits)
def test_temperature_zero_takes_the_likeliest_token(values):
    logits = torch.tensor(values)
    sampling = SamplingConfig(temperature=0, top_k=3, top_p=0.1)
    assert choose_tokens(logits[None], sampling).item() == logits.argmax()


@given(values=some_logits)
def test_top_k_of_one_and_a_tiny_nucleus_take_the_likeliest_token(values):
    logits = torch.tensor(values)
    for sampling in (SamplingConfig(top_k=1), SamplingConfig(top_p=1e-6), SamplingConfig(min_p=1.0)):
        assert frequencies(sampling, logits)[logits.argmax()] == 1


@given(values=some_logits, noise=st.sampled_from([0.0, 1 - 2**-24]))
def test_the_ends_of_the_uniform_distribution_draw_kept_tokens(values, noise):
    """A generator may return 0, and the largest number below 1: neither may draw what was filtered out."""
    logits = torch.tensor([*values, -torch.inf, -torch.inf])
    for sampling in (SamplingConfig(), SamplingConfig(top_p=0.6), SamplingConfig(min_p=0.4), SamplingConfig(top_k=2)):
        for each in (logits, logits.flip(0)):
            token = choose_tokens(each[None], sampling, torch.tensor([noise])).item()
            assert 0 <= token < len(logits)
            kept = naive_probabilities(sampling, each)
            assume_no_ties(sampling, each[each.isfinite()])
            assert kept[token] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": "hot"},
        {"temperature": 1e-45},
        {"temperature": 1e300},
        {"top_p": 1e-300},
        {"min_p": 1e-300},
        {"repetition_penalty": 1e-45},
        {"repetition_penalty": 1e300},
        {"top_k": 0},
        {"top_k": 2.5},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": "most"},
        {"min_p": -0.2},
        {"repetition_penalty": 0.0},
        {"temprature": 1.0},
    ],
    ids=str,
)
def test_a_sampling_option_that_makes_no_sense_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SamplingConfig(**wrong)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(temperature: float, value: float) -> None:
    model = tiny_text_model()
    with torch.no_grad():
        model.decoder.embedding.weight[9] = value
    prompt = Prompt.of_rows([[2, 5, 8], [2, 5, 9]], 0, torch.device("cpu"))
    answers = model.generate(prompt, model.init_memory(2, seed=1), sampling=SamplingConfig(temperature=temperature))
    with pytest.raises(ValueError, match="logits of row 1 are not numbers"):
        list(answers)


@pytest.mark.parametrize("sampling", [{"temperature": 1e-6}, {"temperature": 1e6}, {"top_p": 1e-6}, {"min_p": 1e-6}])
def test_the_edges_of_sampling_draw_tokens(sampling: dict[str, float]) -> None:
    logits = torch.tensor([[-3e3, 2e3, 3e3, 0.0]])
    for noise in (0.0, 0.5, 1 - 2**-24):
        token = choose_tokens(logits, SamplingConfig(**sampling), torch.tensor([noise])).item()
        assert 0 <= token < 4
        assert token == 2 or sampling == {"temperature": 1e6}


# --- seeds ------------------------------------------------------------------------------------------------------------


def run(seed, rows: int = 2, **options) -> list[list[int]]:
    model = shared_model("sqa-qknorm-interlayer-slotlinear")
    ids = some_ids(1, 4).expand(rows, -1)
    memory = some_memory(model, [0] * rows)
    return answers(list(model.generate(Prompt.of(ids, None, 0), memory, seed=seed, **options)))


def test_a_seed_makes_an_answer_repeatable_and_another_seed_changes_it():
    assert run(3) == run(3)
    assert run(3) != run(4)


def test_one_seed_is_counted_up_over_the_rows():
    assert run(3) == run([3, 4])
    assert run(3)[1] == run([4], rows=1)[0]
    assert run(3)[0] != run(3)[1]


def test_rows_of_the_same_seed_answer_the_same_question_alike():
    assert run([8, 8])[0] == run([8, 8])[1]


def test_without_a_seed_pytorchs_global_generator_decides():
    torch.manual_seed(5)
    first, second = run(None), run(None)
    assert first != second
    torch.manual_seed(5)
    assert run(None) == first


def test_a_greedy_answer_needs_no_seed_and_draws_no_random_number():
    state = torch.get_rng_state()
    assert run(None, sampling=SamplingConfig(temperature=0)) == run(1, sampling=SamplingConfig(temperature=0))
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_of_another_number_than_rows_are_refused():
    with pytest.raises(ValueError, match="got 3 for 2 rows"):
        run([1, 2, 3])


@given(short=st.integers(5, 10))
def test_a_shorter_limit_gives_the_beginning_of_the_longer_answer(short):
    long = run(6, max_seq_len=20, ignore_eos=True)
    assert run(6, max_seq_len=short, ignore_eos=True) == [row[: short - 4] for row in long]


# --- prompts and columns ----------------------------------------------------------------------------------------------


def test_a_prompt_collects_the_real_tokens_of_each_row_at_its_start():
    ids = torch.tensor([[9, 1, 8, 9], [9, 9, 9, 2], [3, 4, 5, 6]])
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 0]])
    prompt = Prompt.of(ids, mask, pad_token_id=7)
    assert prompt.lengths == [2, 1, 3]
    assert prompt.ids.tolist() == [[1, 8, 7], [2, 7, 7], [3, 4, 5]]


def test_a_prompt_of_rows_gives_the_rows_back():
    rows = [[1, 8], [2], [3, 4, 5]]
    prompt = Prompt.of_rows(rows, 7, torch.device("cpu"))
    assert prompt.ids.tolist() == [[1, 8, 7], [2, 7, 7], [3, 4, 5]]
    assert prompt.rows() == rows


def test_a_mask_of_another_shape_than_the_ids_is_refused():
    with pytest.raises(ValueError, match=r"mask has shape \(1, 3\)"):
        Prompt.of(torch.ones(1, 4, dtype=torch.long), torch.ones(1, 3), 0)


@pytest.mark.parametrize(("length", "limit"), [(6, 6), (7, 6), (0, 6)])
def test_a_prompt_without_tokens_or_without_room_for_an_answer_is_refused(length, limit):
    model = shared_model("mha-simple-content")
    prompt = Prompt(some_ids(1, max(length, 1)), [length])
    with pytest.raises(ValueError, match=f"{limit - 1}"):
        next(model.generate(prompt, some_memory(model, [0]), max_seq_len=limit))


def test_an_answer_begins_with_one_of_the_first_tokens_where_these_are_given():
    model = shared_model("mha-simple-content")
    prompt, memory = Prompt.of(some_ids(1, 3), None, 0), some_memory(model, [0])
    free = {answers(list(model.generate(prompt, memory, seed=seed)))[0][0] for seed in range(30)}
    bound = {answers(list(model.generate(prompt, memory, seed=s, first_tokens=[6, 9])))[0][0] for s in range(30)}
    assert len(free) > 5
    assert bound == {6, 9}
    later = {tuple(answers(list(model.generate(prompt, memory, seed=s, first_tokens=[6])))[0][1:]) for s in range(9)}
    assert len(later) == 9


def test_generating_builds_no_graph_and_changes_no_memory():
    model = shared_model("mha-simple-content")
    memory = some_memory(model, [0, 1])
    memory.slots.requires_grad_()
    before = memory.slots.detach().clone()
    columns = list(model.generate(Prompt.of(some_ids(2, 3), None, 0), memory, seed=0))
    assert not any(column.tokens.requires_grad for column in columns)
    assert torch.equal(memory.slots.detach(), before)
    assert torch.is_grad_enabled()


def test_a_loop_that_is_left_early_leaves_gradients_switched_on():
    model = shared_model("mha-simple-content")
    loop = model.generate(Prompt.of(some_ids(1, 3), None, 0), some_memory(model, [0]), seed=0)
    next(loop)
    assert torch.is_grad_enabled()
    loop.close()
    assert torch.is_grad_enabled()


def test_the_cost_of_a_step_does_not_grow_with_what_was_written(monkeypatch):
    """Every step after the first reads one token a row: the rest is in the cache."""
    model, widths = shared_model("mha-simple-content"), []
    hidden_states = model.decoder.hidden_states

    def counting(ids, *args, **kwargs):
        widths.append(ids.shape[1])
        return hidden_states(ids, *args, **kwargs)

    monkeypatch.setattr(model.decoder, "hidden_states", counting)
    prompt = Prompt.of(some_ids(2, 5), None, 0)
    produced = list(
        generate(model.decoder, prompt, some_memory(model, [0, 1]), sampling=SamplingConfig(), max_length=12,
                 pad_token_id=0)
    )  # fmt: skip
    assert widths == [5] + [1] * (len(produced) - 1)
    assert len(produced) == 7


def test_a_reading_of_the_memory_serves_like_the_memory():
    model = shared_model("reverse-gated-selfinterlayer-slotelementwise")
    memory, ids = some_memory(model, [0, 1]), some_ids(2, 6)
    reading = model.read_memory(memory)
    with torch.no_grad():
        assert_close(model.decode(ids, reading), model.decode(ids, memory))
    prompt = Prompt.of(ids, None, 0)
    assert answers(list(model.generate(prompt, reading, seed=1))) == answers(
        list(model.generate(prompt, memory, seed=1))
    )


def test_every_token_of_the_vocabulary_can_be_drawn():
    model = shared_model("mha-simple-content")
    prompt, memory = Prompt.of(some_ids(1, 3).expand(400, -1), None, 0), some_memory(model, [0] * 400)
    hot = SamplingConfig(temperature=50.0)
    column = next(model.generate(prompt, memory, sampling=hot, seed=0))
    assert set(column.tokens.tolist()) == set(range(VOCAB))


def test_what_was_generated_can_be_trained_on():
    """The loop runs in inference mode, but tensors of that mode are not what it yields: autograd refuses these."""
    model = shared_model("moe-encoder-reads-memory-linear")
    prompt = Prompt(some_ids(2, 5), [5, 5])
    columns = list(model.generate(prompt, some_memory(model, [0, 1]), max_seq_len=9, ignore_eos=True, seed=0))
    assert not any(column.tokens.is_inference() or column.active.is_inference() for column in columns)
    ids, mask = whole_turns(prompt, columns, 0)
    loss = model.decode(ids, some_memory(model, [0, 1]), mask).square().mean()
    assert torch.autograd.grad(loss, model.decoder.embedding.weight)[0].any()
