"""What the recipe `upcycled` learns and asks, and in which shares."""

from rxlm.config import Config, config, require, require_int, require_share


@config
class UpcycledMix(Config):
    """What is learnt and asked.

    Fields:
        services_share, tales_share: shares of dialogues that are SGD's, and FairytaleQA's, where their folder is given.
            In service dialogues the model keeps to what it would say without a memory. pages_share: share of
            conversations that are pages of a tale and ask nothing; they are kept to in the same way.
        replies: dialogues whose first answer is the language model's own reply. replies_share: how often one of them is
            drawn.
        general_share: share of small talk that gives way to general questions, with the language model's own replies;
            there, too, the model keeps to what it would say without a memory.
        reply_tokens: longest of these replies; they are generated before training.
        open_values: values that training makes for each kind of fact from the tokenizer's words.
        max_facts: kinds of fact that a conversation talks about.
        stream_turns: longest distance between a fact and its question in streams.
        test_turns, test_dialogues: turns of the dialogues that the finished model is asked, and how many of each.
        evaluation_turns, evaluation_dialogues: of those that it is asked while it trains.
        answer_tokens: the longest answer in evaluations.
    """

    services_share: float = 0.06
    tales_share: float = 0.02
    pages_share: float = 0.04
    replies: int = 256
    replies_share: float = 0.12
    general_share: float = 0.6
    reply_tokens: int = 40
    open_values: int = 2000
    max_facts: int = 8
    stream_turns: int = 32
    test_turns: tuple[int, ...] = (9, 32)
    test_dialogues: tuple[int, ...] = (60, 12)
    evaluation_turns: int = 9
    evaluation_dialogues: int = 12
    answer_tokens: int = 32

    def __post_init__(self) -> None:
        require_int(self, "open_values", "max_facts", "stream_turns", "evaluation_dialogues", "answer_tokens")
        require_int(self, "reply_tokens")
        require_int(self, "evaluation_turns", minimum=2)
        require_int(self, "replies", minimum=0)
        shares = (self.services_share, self.tales_share, self.pages_share, self.replies_share)
        require(
            min(shares) >= 0 and sum(shares) <= 1,
            "UpcycledMix: services_share, tales_share, pages_share and replies_share must be from 0 to 1, and no more "
            f"together, got {', '.join(map(str, shares))}.",
        )
        require_share(self, "general_share")
        require(
            len(self.test_turns) == len(self.test_dialogues),
            f"UpcycledMix.test_turns has {len(self.test_turns)} numbers and test_dialogues "
            f"{len(self.test_dialogues)}: each number of turns needs a number of dialogues.",
        )
