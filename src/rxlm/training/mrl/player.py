"""Plays episodes: the policy answers, the memory takes the turn in, the answer earns its reward.

Shapes: N turns, B episodes, T tokens of a turn.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from rxlm.data.padding import padded
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.templates import query_ids
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory import MemoryState
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.rxt.turn_engine import Opening, Query, TurnEngine, write_turns
from rxlm.seeds import derived_seed
from rxlm.training.module import evaluating
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.rewards import Rewards, Scores, TurnAnswers
from rxlm.training.mrl.rollout import Rollout
from rxlm.training.mrl.trajectories import TrajectoryTurn


class _Said(NamedTuple):
    """One turn of one episode.

    Fields:
        ids: its tokens. first, end: where those of the answer begin and end. text: the answer.
        log_probs: of the answer's tokens; None where the policy was told a reference answer, and chose nothing.
        cut: tokens that the query lost because it was too long.
    """

    ids: Sequence[int] = ()
    first: int = 0
    end: int = 0
    text: str = ""
    log_probs: Sequence[float] | None = None
    cut: int = 0


class _Turn(NamedTuple):
    """One turn of all episodes: as it was played, as it was remembered, what it earned, and how the memory moved."""

    played: list[_Said]
    remembered: list[_Said]
    asked: list[int]
    scores: Scores | None
    drift: Tensor


class EpisodePlayer:
    """Lets a model live through dialogues, with its own answers.

    Args:
        model: the policy, with its tokenizer.
        turn_tokenizer: encodes queries and references.
        rewards: what answers earn.
        settings: temperature, longest answer, which turns are played, and what the memory takes in.
    """

    def __init__(self, model: RxTAlpha, turn_tokenizer: TurnTokenizer, rewards: Rewards, settings: MRLConfig) -> None:
        self.model, self.turn_tokenizer, self.rewards, self.settings = model, turn_tokenizer, rewards, settings
        self.sampling = SamplingConfig(temperature=settings.temperature)
        self.tokens = model.tokenizer_config

    @torch.no_grad()
    def play(
        self,
        dialogues: Sequence[Dialogue],
        *,
        seed: int,
        carried: MemoryState | None = None,
        fresh: Tensor | None = None,
    ) -> tuple[Rollout, MemoryState]:
        """Play episodes side by side; return them, and the memories that they end with.

        Args:
            dialogues: their queries are asked, their answers are the references; B.
            seed: of the answers.
            carried, fresh: memories to go on from, and True at the rows that begin with a new one all the same, (B,).

        Raises:
            RewardError: where a reward fails; it says which.
        """
        with evaluating(self.model):
            return self._play(dialogues, seed, carried, fresh)

    def _play(
        self, dialogues: Sequence[Dialogue], seed: int, carried: MemoryState | None, fresh: Tensor | None
    ) -> tuple[Rollout, MemoryState]:
        memory, start = self.model.init_memory(len(dialogues)), None
        if carried is not None and fresh is not None:
            start = memory = memory.where(fresh, carried)
        turns: list[_Turn] = []
        seconds = {"generation": 0.0, "reward": 0.0}
        for number in range(max(map(len, dialogues))):
            present = {row: each.turns[number] for row, each in enumerate(dialogues) if number < len(each)}
            with _timed(seconds, "generation"):
                references = [self._told(present[row]) if row in present else _Said() for row in range(len(dialogues))]
                asked = [row for row, turn in present.items() if self._is_played(number, turn)]
                answers = self._answer({row: present[row].query for row in asked}, memory, derived_seed(seed, number))
                played = [answers.get(row, told) for row, told in enumerate(references)]
                remembered = references if self.settings.memory_from == "reference" else played
                before, memory = memory, write_turns(self.model, memory, [said.ids for said in remembered])
            with _timed(seconds, "reward"):
                scores = self._score(dialogues, answers, references, turns)
            drift = memory.drift(before).square().mean(0).sqrt()
            turns.append(_Turn(played, remembered, asked, scores, drift))
        return self._rollout(dialogues, turns, start, None if start is None else fresh, seconds), memory

    def _is_played(self, number: int, turn: Interaction) -> bool:
        return number >= self.settings.warmup_turns and (self.settings.plays == "all" or turn.question is not None)

    def _told(self, turn: Interaction) -> _Said:
        """Return a turn with its reference answer."""
        encoded = self.turn_tokenizer.encode(turn)
        return _Said(encoded.ids, encoded.first_target, encoded.end_of_targets, turn.answer)

    def _answer(self, queries: Mapping[int, str], memory: MemoryState, seed: int) -> dict[int, _Said]:
        """Sample an answer to each query, by its episode."""
        if not queries:
            return {}
        engine = TurnEngine(self.model, len(queries), max_seq_len=self.turn_tokenizer.max_tokens, with_log_probs=True)
        opening, tokenizer = Opening(appended=self.tokens.before_answer), self.turn_tokenizer.tokenizer
        longest = self.settings.max_answer_tokens
        turns = [
            engine.prepare(Query(ids, opening, self.sampling, seed + row, max_answer_tokens=longest), "cut")
            for row, ids in ((row, query_ids(tokenizer, self.tokens, text)) for row, text in queries.items())
        ]
        engine.begin(turns, memory.select(list(queries)))
        columns = [column.log_probs for column in engine.run() if column.log_probs is not None]
        engine.leave(turns)
        log_probs = torch.stack(columns, dim=1).tolist()
        texts = self.model.stringify_batch([engine.said(turn) for turn in turns])
        return {
            row: _Said(
                turn.ids,
                len(turn.prompt),
                len(turn.ids),
                text,
                log_probs[turn.row][: len(turn.answer)],
                turn.cut,
            )
            for row, turn, text in zip(queries, turns, texts, strict=True)
        }

    def _score(
        self,
        dialogues: Sequence[Dialogue],
        answers: Mapping[int, _Said],
        references: Sequence[_Said],
        earlier: Sequence[_Turn],
    ) -> Scores | None:
        """Return what the answers earned; None where there are none."""
        if not answers:
            return None

        def ids_of(answer: _Said) -> list[int]:
            return [token for token in answer.ids[answer.first : answer.end] if token != self.tokens.eos_token_id]

        interactions = [dialogues[row].turns[len(earlier)] for row in answers]
        return self.rewards(
            TurnAnswers(
                turn=len(earlier),
                queries=[turn.query for turn in interactions],
                answers=[answer.text for answer in answers.values()],
                references=[turn.answer for turn in interactions],
                answer_ids=[ids_of(answer) for answer in answers.values()],
                reference_ids=[ids_of(references[row]) for row in answers],
                questions=[turn.question for turn in interactions],
                history=[
                    [(dialogues[row].turns[n].query, turn.remembered[row].text) for n, turn in enumerate(earlier)]
                    for row in answers
                ],
            )
        )

    def _rollout(
        self,
        dialogues: Sequence[Dialogue],
        turns: Sequence[_Turn],
        start: MemoryState | None,
        fresh: Tensor | None,
        seconds: Mapping[str, float],
    ) -> Rollout:
        """Put what was played into tensors."""
        device, shape = self.model.device, (len(turns), len(dialogues))
        ids, mask = self._stacked([turn.played for turn in turns])
        place = torch.arange(ids.shape[2], device=device)
        ranges = torch.tensor([[(said.first, said.end) for said in turn.played] for turn in turns], device=device)
        first, end = ranges[..., None].unbind(2)
        is_answer = (place >= first) & (place < end)
        chosen = torch.tensor([[said.log_probs is not None for said in turn.played] for turn in turns], device=device)
        log_probs = torch.zeros(ids.shape)
        rewards, earns = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
        by_name = {reward.name: torch.full(shape, torch.nan) for reward in self.rewards.rewards}
        for number, turn in enumerate(turns):
            for row in turn.asked:
                said = turn.played[row]
                log_probs[number, row, said.first : said.end] = torch.tensor(said.log_probs)
            if turn.scores is not None:
                rewards[number, turn.asked], earns[number, turn.asked] = turn.scores.total, turn.scores.applies
                for name, values in turn.scores.by_name.items():
                    by_name[name][number, turn.asked] = values
        remembered = None
        if self.settings.memory_from == "reference":
            remembered = dict(zip(("ids", "mask"), self._stacked([turn.remembered for turn in turns]), strict=True))
        rollout = Rollout(
            ids=ids,
            mask=mask,
            answered=is_answer & chosen[..., None],
            told=is_answer & ~chosen[..., None],
            log_probs=log_probs,
            rewards=rewards,
            earns=earns,
            by_name=by_name,
            drift=torch.stack([turn.drift for turn in turns]),
            cut=torch.tensor([[said.cut for said in turn.played] for turn in turns]),
            remembered=remembered,
            start=start,
            fresh=fresh,
            groups=self.settings.group_size,
            words=[
                [
                    TrajectoryTurn(each.query, turn.played[row].text, each.answer)
                    for turn, each in zip(turns, dialogue.turns, strict=False)
                ]
                for row, dialogue in enumerate(dialogues)
            ],
            seconds=seconds,
        )
        return rollout.to(device)

    def _stacked(self, turns: Sequence[Sequence[_Said]]) -> tuple[Tensor, Tensor]:
        """Return the tokens of turns of all episodes, and their mask, (N, B, T) each."""
        width = max(len(said.ids) for turn in turns for said in turn)
        rows = [said.ids for turn in turns for said in turn]
        ids, mask = padded(rows, self.tokens.pad_token_id, width=width, device=self.model.device)
        return ids.unflatten(0, (len(turns), -1)), mask.unflatten(0, (len(turns), -1))


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that a block takes."""
    started = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - started
