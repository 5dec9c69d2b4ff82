"""Plays episodes: the policy answers, the memory takes the turn in, the answer earns its reward.

Shapes: N turns, B episodes, T tokens of a turn.
"""

import time
from collections.abc import Sequence
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
from rxlm.training.mrl.config import MRLConfig
from rxlm.training.mrl.rewards import Rewards, Scores, TurnAnswers
from rxlm.training.mrl.rollout import Rollout, Words
from rxlm.training.turns import Turns


class _Said(NamedTuple):
    """One turn of one episode: its tokens, how many the policy chose at its end, their log-probabilities, its text.

    `told`: where the tokens of a reference answer begin and end, at a turn that the policy was told.
    """

    ids: Sequence[int]
    chosen: int
    log_probs: Sequence[float]
    text: str
    told: tuple[int, int] = (0, 0)


_NOTHING = _Said((), 0, (), "")


class _Turn(NamedTuple):
    """One turn of all episodes: as it was played, as it was remembered, what it earned, and how the memory moved."""

    played: list[_Said]
    remembered: list[_Said]
    scores: Scores | None
    asked: list[int]
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
        was_training = self.model.training
        self.model.eval()
        self.seconds = {"generation": 0.0, "reward": 0.0}
        memory = self.model.init_memory(len(dialogues))
        start = None
        if carried is not None and fresh is not None:
            start = memory = memory.where(fresh, carried)
        history: list[list[tuple[str, str]]] = [[] for _ in dialogues]
        turns = []
        for number in range(max(map(len, dialogues))):
            present = {row: each.turns[number] for row, each in enumerate(dialogues) if number < len(each)}
            turn, memory = self._turn(number, present, memory, history, seed)
            turns.append(turn)
            for row, interaction in present.items():
                history[row].append((interaction.query, turn.remembered[row].text))
        self.model.train(was_training)
        words = tuple(
            tuple(
                Words(each.query, turn.played[row].text, each.answer)
                for turn, each in zip(turns, dialogue.turns, strict=False)
            )
            for row, dialogue in enumerate(dialogues)
        )
        return self._rollout(turns, words, start, None if start is None else fresh), memory

    def _turn(
        self,
        number: int,
        present: dict[int, Interaction],
        memory: MemoryState,
        history: list[list[tuple[str, str]]],
        seed: int,
    ) -> tuple[_Turn, MemoryState]:
        """Play a turn of the episodes that have it."""
        started = time.perf_counter()
        references = [self._told(present[row]) if row in present else _NOTHING for row in range(memory.batch_size)]
        played = list(references)
        asked = [row for row, turn in present.items() if self._is_played(number, turn)]
        if asked:
            first = derived_seed(seed, number)
            queries = [present[row].query for row in asked]
            answers = self._answer(queries, memory.select(asked), [first + row for row in asked])
            for row, answer in zip(asked, answers, strict=True):
                played[row] = answer
        remembered = references if self.settings.memory_from == "reference" else played
        after = write_turns(self.model, memory, [said.ids for said in remembered])
        self.seconds["generation"] += time.perf_counter() - started
        started = time.perf_counter()
        scores = self._score(number, present, asked, played, history) if asked else None
        self.seconds["reward"] += time.perf_counter() - started
        return _Turn(played, remembered, scores, asked, after.drift(memory).square().mean(0).sqrt()), after

    def _is_played(self, number: int, turn: Interaction) -> bool:
        behind_warmup = number >= self.settings.warmup_turns
        return behind_warmup and (self.settings.plays == "all" or turn.question is not None)

    def _told(self, turn: Interaction) -> _Said:
        """Return a turn with its reference answer, of which the policy chose nothing."""
        encoded = self.turn_tokenizer.encode(turn)
        return _Said(encoded.ids, 0, (), turn.answer, (encoded.first_target, encoded.end_of_targets))

    def _answer(self, queries: list[str], memory: MemoryState, seeds: list[int]) -> list[_Said]:
        """Sample an answer to each query."""
        longest, limit = self.settings.max_answer_tokens, self.turn_tokenizer.max_tokens
        engine = TurnEngine(self.model, len(queries), max_seq_len=limit, with_log_probs=True)
        opening, tokenizer = Opening(appended=self.tokens.before_answer), self.turn_tokenizer.tokenizer
        asked = [
            Query(query_ids(tokenizer, self.tokens, query), opening, self.sampling, seed, max_answer_tokens=longest)
            for query, seed in zip(queries, seeds, strict=True)
        ]
        turns = [engine.prepare(query, "cut") for query in asked]
        engine.begin(turns, memory)
        log_probs = torch.stack([column.log_probs for column in engine.run() if column.log_probs is not None], dim=1)
        rows = log_probs.tolist()
        engine.leave(turns)
        texts = self.model.stringify_batch([engine.said(turn) for turn in turns])
        return [
            _Said(turn.ids, len(turn.answer), rows[turn.row][: len(turn.answer)], text)
            for turn, text in zip(turns, texts, strict=True)
        ]

    def _score(
        self,
        number: int,
        present: dict[int, Interaction],
        asked: list[int],
        played: list[_Said],
        history: list[list[tuple[str, str]]],
    ) -> Scores:
        """Return what the answers earned."""
        end = self.tokens.eos_token_id
        references = [self.turn_tokenizer.encode(present[row]) for row in asked]
        answers = [played[row] for row in asked]
        return self.rewards(
            TurnAnswers(
                turn=number,
                queries=[present[row].query for row in asked],
                answers=[answer.text for answer in answers],
                references=[present[row].answer for row in asked],
                answer_ids=[[t for t in each.ids[len(each.ids) - each.chosen :] if t != end] for each in answers],
                reference_ids=[
                    [t for t in each.ids[each.first_target : each.end_of_targets] if t != end] for each in references
                ],
                questions=[present[row].question for row in asked],
                history=[history[row] for row in asked],
            )
        )

    def _rollout(
        self, turns: list[_Turn], words: tuple[tuple[Words, ...], ...], start: MemoryState | None, fresh: Tensor | None
    ) -> Rollout:
        size, device = len(words), self.model.device
        played = self._turns([turn.played for turn in turns])
        log_probs = torch.zeros(played.ids.shape)
        shape = len(turns), size
        rewards, earns = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
        by_name = {reward.name: torch.full(shape, float("nan")) for reward in self.rewards.rewards}
        for number, turn in enumerate(turns):
            for row, said in enumerate(turn.played):
                log_probs[number, row, len(said.ids) - said.chosen : len(said.ids)] = torch.tensor(said.log_probs)
            if turn.scores is not None:
                rewards[number, turn.asked], earns[number, turn.asked] = turn.scores.total, turn.scores.applies
                for name, values in turn.scores.by_name.items():
                    by_name[name][number, turn.asked] = values
        from_reference = self.settings.memory_from == "reference"
        return Rollout(
            ids=played.ids,
            mask=played.mask,
            answered=played.answer_mask,
            told=self._told_tokens([turn.played for turn in turns], played),
            log_probs=log_probs.to(device),
            rewards=rewards.to(device),
            earns=earns.to(device),
            by_name={name: values.to(device) for name, values in by_name.items()},
            drift=torch.stack([turn.drift for turn in turns]),
            remembered=self._turns([turn.remembered for turn in turns]) if from_reference else None,
            start=start,
            fresh=fresh,
            groups=self.settings.group_size,
            words=words,
            seconds=self.seconds,
        )

    def _turns(self, turns: Sequence[Sequence[_Said]]) -> Turns:
        """Stack turns of all episodes; the tokens that the policy chose are the answers."""
        width = max(len(said.ids) for turn in turns for said in turn)
        pad, device = self.tokens.pad_token_id, self.model.device
        parts = [padded([said.ids for said in turn], pad, width=width, device=device) for turn in turns]
        ids, mask = (torch.stack([part[number] for part in parts]) for number in (0, 1))
        chosen = torch.tensor([[said.chosen for said in turn] for turn in turns], device=ids.device)
        first = mask.sum(2) - chosen
        return Turns(ids, mask, mask & (torch.arange(width, device=ids.device) >= first[..., None]))

    def _told_tokens(self, turns: Sequence[Sequence[_Said]], played: Turns) -> Tensor:
        """Return True at the tokens of answers that were told, (N, B, T)."""
        ranges = torch.tensor([[said.told for said in turn] for turn in turns], device=played.ids.device)
        first, end = ranges[..., None].unbind(2)
        place = torch.arange(played.ids.shape[2], device=played.ids.device)
        return (place >= first) & (place < end)
