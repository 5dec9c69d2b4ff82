"""Conversations of the user's own in a run: what is learnt from, what is held out, and what the model makes of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rxlm.data.conversation_check import ConversationCheck, check_conversations, without_thoughts
from rxlm.data.dialogue_forms import Conversations, read_conversations
from rxlm.data.fields import BadRecords
from rxlm.data.held_out import hold_out_by_id, words_of
from rxlm.data.mined_questions import common_words, with_mined_questions
from rxlm.data.records import Dialogue
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.mrq_bench.arms import ARM_NAMES, PredictedTurn, arms_of, predict_in_arms
from rxlm.mrq_bench.benchmark_data import DialogueSet
from rxlm.mrq_bench.reports.worth import part_of
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.mrq_bench.statistics import Bootstrap
from rxlm.recipes.run_results import ResultTable
from rxlm.rxt.models import RxTAlpha

HELD_OUT_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""The first one that holds out something."""
MEASURED = 60
"""Held-out conversations that a finished model is measured on, at most."""
LONGEST = 64
"""Turns of them that are read, at most."""
PLACES = 3
_BATCH = 8
_HALF = math.log(2)
NOTE = (
    "Answers of your held-out conversations after their first turns, predicted from more or less of what was said "
    "before. Nats a token: lower is better; what the memory gains over nothing is what it is worth. Recalled: words "
    "that were said at least two turns before and not since, and that the model gives a probability of at least one "
    "half at their place in the answer (of so many words)."
)


@dataclass(frozen=True)
class OwnConversations:
    """Conversations of the user's own, divided: those to learn from, and those held out, which have questions."""

    read: Conversations
    training: Sequence[Dialogue]
    held_out: Sequence[Dialogue]

    @classmethod
    def open(cls, paths: Sequence[str], bad_records: BadRecords) -> "OwnConversations":
        """Read and divide conversations; of equal ones the first is taken. Raises as `read_conversations` does."""
        read = read_conversations(paths, bad_records=bad_records)
        # A model that keeps tokens does not think: thoughts would be trained one way and asked another.
        different = {words_of(dialogue): without_thoughts(dialogue) for dialogue in reversed(read.dialogues)}
        training, held_out = _divided(list(different.values())[::-1])
        common = common_words([*training, *held_out])
        return cls(read, training, with_mined_questions(held_out, common))

    def pieces(self, num_turns: int) -> list[Dialogue]:
        """Return the conversations to learn from, in pieces of at most so many turns, with mined questions."""
        pieces = [
            Dialogue(dialogue.turns[start : start + num_turns], dialogue.source)
            for dialogue in self.training
            for start in range(0, len(dialogue), num_turns)
            if start == 0 or start + 1 < len(dialogue)
        ]
        return with_mined_questions(pieces, common_words(self.training))

    def notes(self, turn_tokenizer: TurnTokenizer) -> list[str]:
        """Return what is to be said before training: what is learnt from, skipped, cut, and held out."""
        whole = TurnTokenizer(turn_tokenizer.tokenizer, turn_tokenizer.tokens, max_tokens=1 << 40)
        plain = Conversations([without_thoughts(dialogue) for dialogue in self.read.dialogues], self.read.skipped)
        limit = turn_tokenizer.max_tokens
        found = check_conversations(plain, lambda turn: len(whole.encode(turn).ids), limit)
        thoughts = sum(turn.thought is not None for dialogue in self.read.dialogues for turn in dialogue.turns)
        questions = sum(turn.question is not None for dialogue in self.held_out for turn in dialogue.turns)
        lines = [
            f"Your conversations: {found.conversations:,} with {found.turns:,} turns; {len(self.training):,} to learn "
            f"from, {len(self.held_out):,} held out, in which {questions:,} words said earlier are asked for."
        ]
        if not self.held_out:
            lines.append("None is held out, since there are too few: the model is not measured on your conversations.")
        if thoughts:
            lines.append(f"{thoughts:,} thoughts are left out: the model does not think.")
        return [*lines, *_not_used(found, limit)]

    def table(self, model: RxTAlpha) -> ResultTable | None:
        """Return recall and the worth of history on held-out conversations; None where there is nothing to predict."""
        dialogues = [_shortened(dialogue) for dialogue in self.held_out[:MEASURED]]
        sets = (DialogueSet("conversations", dialogues),)
        respondent = RxTRespondent(model, max_answer_tokens=model.max_seq_len)
        predicted = predict_in_arms(respondent, sets, arms := arms_of(respondent, sets, _BATCH), _BATCH)
        figures = part_of(Bootstrap([[("conversations", row) for row in range(len(dialogues))]]), predicted)
        if figures is None:
            return None
        turn_tokenizer = TurnTokenizer(model.needed_tokenizer(), model.tokenizer_config, max_tokens=model.max_seq_len)
        places = [(turn, _word_places(turn, turn_tokenizer)) for turn in predicted]
        asked = [(turn, found) for turn, found in places if found]
        rows = []
        for arm in arms:
            nats = figures["nats"][arm]
            right = sum(float(turn.nats[arm][found].sum()) <= _HALF for turn, found in asked)
            recalled = f"{right / len(asked):.1%} ({len(asked)})" if asked else ""
            gain = figures["gain"].get(arm)
            rows.append((ARM_NAMES[arm], *(f"{each['value']:.3f}" if each else "" for each in (nats, gain)), recalled))
        header = ("predicted from", "nats a token", "gain over nothing", "recalled")
        return ResultTable(f"Your conversations: {len(dialogues)} held out", header, tuple(rows), NOTE)


def _divided(dialogues: Sequence[Dialogue]) -> tuple[Sequence[Dialogue], Sequence[Dialogue]]:
    """Divide dialogues into those for training and those held out: of few ones more than a tenth, so that one is."""
    for share in HELD_OUT_SHARES:
        training, held_out = hold_out_by_id(dialogues, share)
        if training and held_out:
            return training, held_out
    return dialogues, ()


def _shortened(dialogue: Dialogue) -> Dialogue:
    return Dialogue(dialogue.turns[:LONGEST], dialogue.source, dialogue.details)


def _word_places(turn: PredictedTurn, turn_tokenizer: TurnTokenizer) -> list[int]:
    """Return the places, in a turn's answer, of the tokens of the word that it asks for."""
    encoded = turn_tokenizer.encode(turn.turn)
    count = len(next(iter(turn.nats.values())))
    places = [place - encoded.first_target for place in encoded.values[:-1]]  # the last one is the token after
    return [place for place in places if place < count]


def _not_used(found: ConversationCheck, limit: int) -> list[str]:
    parts = (
        ("records cannot be read and are skipped", found.skipped),
        ("runs of messages are part of no turn and left out", found.left_out),
        (f"turns are longer than {limit:,} tokens and are cut", found.too_long),
        ("conversations are the same as others and left out", found.duplicates),
    )
    return [f"{len(places):,} {what}: {_some(places)}" for what, places in parts if places]


def _some(places: Sequence[str]) -> str:
    return "; ".join(places[:PLACES]) + ("; ..." if len(places) > PLACES else "")
