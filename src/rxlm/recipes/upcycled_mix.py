"""What the recipe `upcycled` learns and asks, and in which shares."""

from rxlm.config import Config, config, require, require_int, require_share
from rxlm.data.fact_config import turn_shares

SHARES = (
    "conversations_share", "services_share", "people_share", "tales_share", "meetings_share", "pages_share",
    "passages_share",
)  # fmt: skip


@config
class UpcycledMix(Config):
    """What is learnt and asked.

    Fields:
        conversations_share: share of dialogues that are the user's own, where the recipe has `conversations`; their
            answers are references, but those of weight 0.
        services_share, people_share, tales_share, meetings_share, pages_share: shares of dialogues that are SGD's, of
            people (CaSiNo, PersuasionForGood, self-dialogues), questions about fairy tales, and about meetings, after
            they were told, and pages of books; where the data folder has them. The rest are generated dialogues about
            facts. In natural dialogue the model keeps to what it would say with its whole history.
        passages_share: share of dialogues that are two long passages of books, each one turn: plain text, as the
            language model knew it.
        distractor_share: share of the dialogues before which stand turns of another one, in the same conversation: what
            one speaker told must not be taken for what another did.
        question_share, repeat_share, unknown_share, chatter_share, update_share: shares of turns of generated
            dialogues, as `FactsConfig` has them.
        world_share: share of turns of small talk that ask about the world.
        open_values: values that training makes for each kind of fact from the tokenizer's words.
        max_facts: kinds of fact that a conversation talks about.
        tale_words, page_words, passage_words, meeting_words: longest turns of what is told. told_turns: the most of
            them before a question, and pages of a conversation.
        test_turns, test_dialogues: turns of the dialogues that the finished model is asked, and how many of each.
        evaluation_turns, evaluation_dialogues: of those that it is asked while it trains.
        answer_tokens: the longest answer in evaluations.
    """

    conversations_share: float = 0.4
    services_share: float = 0.14
    people_share: float = 0.16
    tales_share: float = 0.1
    meetings_share: float = 0.0
    pages_share: float = 0.06
    passages_share: float = 0.05
    distractor_share: float = 0.0
    question_share: float = 0.5
    repeat_share: float = 0.4
    unknown_share: float = 0.1
    chatter_share: float = 0.1
    update_share: float = 0.5
    world_share: float = 0.7
    open_values: int = 2000
    max_facts: int = 8
    tale_words: int = 40
    page_words: int = 60
    passage_words: int = 240
    meeting_words: int = 60
    told_turns: int = 12
    test_turns: tuple[int, ...] = (9, 32)
    test_dialogues: tuple[int, ...] = (60, 12)
    evaluation_turns: int = 9
    evaluation_dialogues: int = 12
    answer_tokens: int = 32

    def __post_init__(self) -> None:
        require_int(self, "open_values", "max_facts", "evaluation_dialogues", "answer_tokens")
        require_int(self, "tale_words", "page_words", "passage_words", "meeting_words", minimum=10)
        require_int(self, "evaluation_turns", "told_turns", minimum=2)
        require_share(self, "distractor_share", "world_share")
        turn_shares(self)
        shares = [getattr(self, name) for name in SHARES]
        require(
            min(shares) >= 0 and sum(shares) <= 1,
            f"UpcycledMix: {', '.join(SHARES)} must be from 0 to 1, and no more together, got "
            f"{', '.join(map(str, shares))}.",
        )
        require(
            len(self.test_turns) == len(self.test_dialogues),
            f"UpcycledMix.test_turns has {len(self.test_turns)} numbers and test_dialogues "
            f"{len(self.test_dialogues)}: each number of turns needs a number of dialogues.",
        )
