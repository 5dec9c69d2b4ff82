"""A step over tensors that stay where they are, as a GPU replays it: here it is computed operator by operator."""

import gc
from collections.abc import Callable

import pytest
import torch

from helpers import MAX_SEQ_LEN, shared_model, some_ids, some_memory
from rxlm.rxt import decoding, step_graph
from rxlm.rxt.decoding import Column, DecodingState, RowSettings
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.step_graph import MOST_GRAPHS, StepGraphs
from text_models import tiny_retained_model

MODELS = (
    "gqa-window-self-elementwise",
    "sqa-qknorm-interlayer-slotlinear",
    "gqa-biased-retained",
    "gqa-retained-tokens",
)
RETAINED = "gqa-biased-retained"
LENGTHS = (3, 7)


def opened(model: RxTAlpha, num_rows: int, length: int, graphs: StepGraphs | None) -> DecodingState:
    state = DecodingState(model.decoder, num_rows, length, pad_token_id=0, with_log_probs=True)
    state._graphs = graphs
    return state


def join(state: DecodingState, model: RxTAlpha, seeds: list[int], limit: int) -> list[int]:
    """Let rows with prompts of several lengths join."""
    lengths = [LENGTHS[seed % len(LENGTHS)] for seed in seeds]
    rows = [some_ids(1, length, seed)[0].tolist() for length, seed in zip(lengths, seeds, strict=True)]
    prompt = Prompt.of_rows(rows, 0, torch.device("cpu"))
    return state.admit(prompt, some_memory(model, seeds), [RowSettings(GREEDY, None, limit) for _ in seeds])


def same(columns: list[Column], others: list[Column]) -> None:
    for one, other in zip(columns, others, strict=True):
        assert torch.equal(one.active, other.active)
        assert torch.equal(one.tokens, other.tokens)
        assert one.log_probs is not None
        assert other.log_probs is not None
        torch.testing.assert_close(one.log_probs[one.active], other.log_probs[one.active])


def both(model: RxTAlpha, play: Callable[[DecodingState], list[Column]], num_rows: int, length: int) -> None:
    """Play the same with such steps and without."""
    graphs = StepGraphs(model.decoder, capture=False)
    same(play(opened(model, num_rows, length, graphs)), play(opened(model, num_rows, length, None)))
    assert graphs._steps


@pytest.mark.parametrize("name", MODELS)
def test_rows_that_join_and_leave_are_answered_alike(name: str) -> None:
    model = shared_model(name)

    def play(state: DecodingState) -> list[Column]:
        rows = join(state, model, [0, 1], 20)
        columns = [state.step() for _ in range(4)]
        join(state, model, [2], 20)
        columns += [state.step() for _ in range(3)]
        state.evict(rows[:1])
        join(state, model, [3], 20)
        return columns + [state.step() for _ in range(5)]

    both(model, play, 3, 20)


@pytest.mark.parametrize("name", MODELS)
def test_a_table_that_has_ended_is_used_again(name: str) -> None:
    model = shared_model(name)

    def play(state: DecodingState) -> list[Column]:
        columns = []
        for seeds in ([0, 1], [2, 3], [4, 5]):
            rows = join(state, model, seeds, 20)
            columns += [state.step() for _ in range(6)]
            state.evict(rows)
        return columns

    both(model, play, 2, 20)


def test_answers_that_outgrow_their_places_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "LEAST_PLACES", 8)
    monkeypatch.setattr(decoding, "CHUNK", 2)
    model, length = shared_model(RETAINED), MAX_SEQ_LEN

    def play(state: DecodingState) -> list[Column]:
        join(state, model, [0, 1], length)
        return [state.step() for _ in range(length - max(LENGTHS))]

    both(model, play, 2, length)


def test_tables_side_by_side_do_not_meet_in_one_graph() -> None:
    model = shared_model(RETAINED)
    graphs = StepGraphs(model.decoder, capture=False)
    seeds = ([0, 1], [2, 3])
    together = [opened(model, 2, 24, graphs) for _ in seeds]
    alone = [opened(model, 2, 24, None) for _ in seeds]
    for state, other, own in zip(together, alone, seeds, strict=True):
        join(state, model, own, 20)
        join(other, model, own, 20)
    for _ in range(8):
        for state, other in zip(together, alone, strict=True):
            same([state.step()], [other.step()])
    assert len(graphs._steps) == 2


def test_a_graph_serves_one_table_after_another_and_few_are_kept() -> None:
    model = shared_model(RETAINED)
    graphs = StepGraphs(model.decoder, capture=False)
    for num_rows in (*range(1, MOST_GRAPHS + 4), 2, 2):
        state = opened(model, num_rows, 24, graphs)
        join(state, model, list(range(num_rows)), 20)
        for _ in range(3):
            state.step()
        del state
        gc.collect()
    assert len(graphs._steps) == MOST_GRAPHS
    assert sum(step.form.rows == 2 for step in graphs._steps) == 1


def test_a_decoder_on_a_cpu_has_no_graphs() -> None:
    assert StepGraphs.of(shared_model(RETAINED).decoder) is None


def test_a_model_that_nobody_needs_takes_its_graphs_along() -> None:
    model = tiny_retained_model()
    graphs = StepGraphs(model.decoder, capture=False)
    state = opened(model, 1, 24, graphs)
    prompt = Prompt.of_rows([[9, 10]], 0, torch.device("cpu"))
    state.admit(prompt, model.init_memory(1), [RowSettings(GREEDY, None, 20)])
    state.step()
    state.step()
    decoder = graphs._decoder
    del model, state
    gc.collect()
    assert decoder() is None
