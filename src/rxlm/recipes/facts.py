"""Recipes on the generated fact dialogues: `tiny`, the quickstart, and `retention`, which holds facts for longer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from rxlm.config import config, require, require_choice, require_int
from rxlm.data.fact_config import FactsConfig, turn_shares
from rxlm.data.fact_kinds import values_by_kind
from rxlm.data.fact_preferences import FactPreferences
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.preferences import Preference
from rxlm.data.records import Dialogue, Interaction
from rxlm.mrq_bench.protocol import Control
from rxlm.recipes.batch_maker import BatchMaker
from rxlm.recipes.corpus import Corpus
from rxlm.recipes.feedback import preference_stages
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.recall import RecallTest
from rxlm.recipes.recipe import ReactiveRecipe, model_of_size, reinforcement, reinforcement_from_feedback
from rxlm.recipes.run_results import RunResults
from rxlm.recipes.stages import MemoryAttentionStage, MemoryAwareStage, interactions_stage, language_stage, steps_of
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import SamplingConfig
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from rxlm.training.trainer import Batches

TOKENIZER_DIALOGUES = 2000
MANY = 10_000_000
JUDGED, JUDGED_TURNS = 200, 8
"""Dialogues that show what preferences changed, and their turns."""
ASKS_MORE = {"question_share": 0.35, "unknown_share": 0.15, "update_share": 0.9}
"""Shares of their turns that ask for what was told and for what was never told, and of tellings that change a fact."""
MESSAGES = (
    "Hello!",
    "My dog's name is Buddy.",
    "I have a flat in Sydney.",
    "It is raining again.",
    "What is my dog's name?",
    "My room number is 19.",
    "How are you?",
    "Do you remember my room?",
)
NOTE = (
    "Exact answers to questions about facts told so many turns before (number of questions), in test dialogues whose "
    "combinations of facts training has not seen. The control answers every turn from an empty memory: what it scores "
    "is luck."
)


@config
class FactsRecipe(ReactiveRecipe):
    """A run on generated fact dialogues.

    Fields:
        variety: of the dialogues, "small" or "full".
        question_share, repeat_share, unknown_share, chatter_share, update_share: shares of turns in training, as
            `FactsConfig` has them, whose own are the shares in tests.
        stream_turns: longest distance between a fact and its question in streams.
        test_turns, test_dialogues: turns of the dialogues that the finished model is asked, and how many of each.
        evaluation_turns, evaluation_dialogues: turns of the dialogues that it is asked while it trains, and how many.
    """

    variety: Literal["small", "full"] = "small"
    question_share: float = 0.4
    repeat_share: float = 0.0
    unknown_share: float = 0.05
    chatter_share: float = 0.1
    update_share: float = 0.5
    stream_turns: int = 64
    test_turns: tuple[int, ...] = (8, 16, 32, 64, 128)
    test_dialogues: tuple[int, ...] = (500, 200, 100, 64, 32)
    evaluation_turns: int = 32
    evaluation_dialogues: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "variety", ("small", "full"))
        require_int(self, "stream_turns", "evaluation_dialogues")
        require_int(self, "evaluation_turns", minimum=2)
        require(
            len(self.test_turns) == len(self.test_dialogues),
            f"FactsRecipe.test_turns has {len(self.test_turns)} numbers and test_dialogues {len(self.test_dialogues)}: "
            "each number of turns needs a number of dialogues.",
        )
        turn_shares(self)

    def open_corpus(self) -> "FactsCorpus":
        """Return the generator's side of the recipe."""
        return FactsCorpus(self)


class FactsCorpus(Corpus):
    """Generated dialogues: as many as are wanted, none of them twice."""

    def __init__(self, recipe: FactsRecipe) -> None:
        self.recipe = recipe
        self.values = values_by_kind(recipe.variety)
        self.recall = RecallTest(self.values)

    def generator(self, **changes: Any) -> FactGenerator:
        """Return the generator of the recipe's dialogues, with some settings changed."""
        return FactGenerator(FactsConfig(variety=self.recipe.variety, seed=self.recipe.seed).replace(**changes))

    def texts(self) -> Iterable[str]:
        """Return the texts of some dialogues."""
        return texts_of(self.generator().dialogues(TOKENIZER_DIALOGUES))

    def language(self, make: BatchMaker) -> Batches:
        """Return turns: the language of these dialogues is theirs alone."""
        return self.interactions(make)

    def interactions(self, make: BatchMaker) -> Batches:
        """Return turns."""
        return make.shuffled(_TurnsOf(self.generator()), make.turn_tokenizer.interaction_batch, shuffle=False)

    def dialogues(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return dialogues, or streams in which every distance is as likely as its inverse."""
        shares = turn_shares(self.recipe)
        if phase.streams:
            longest = self.recipe.stream_turns
            generator = self.generator(
                num_turns=longest + 1, distance_law="log-uniform", seed=make.seed + 100, **shares
            )
            return make.streams(generator.stream, phase)
        dialogues = self.generator(num_turns=phase.num_turns, seed=make.seed + 1, **shares).dialogues(MANY)
        return make.dialogues(dialogues, shuffle=False)

    def episodes(self, make: BatchMaker, phase: DialoguePhase) -> Batches:
        """Return dialogues that the stages before have not seen."""
        dialogues = self.generator(num_turns=phase.num_turns, seed=make.seed + 200).dialogues(MANY)
        return make.dialogues(dialogues, shuffle=False)

    def preferences(self, make: BatchMaker) -> Sequence[Preference]:
        """Return pairs of answers about dialogues that the stages before have not seen."""
        return FactPreferences(self.generator(seed=make.seed + 300), MANY)

    def graded(self, model: RxTAlpha) -> Mapping[str, tuple[float, int]]:
        """Return how a model answers test dialogues in which one turn in seven asks for what was never told."""
        return self.recall.graded(model, self._test(JUDGED_TURNS, JUDGED, **ASKS_MORE))

    def competitors(self) -> Mapping[str, Collection[str]]:
        """Return the values of each kind of fact."""
        return self.values

    def held_out(self) -> Sequence[Dialogue]:
        """Return the dialogues that a model in training is asked."""
        recipe = self.recipe
        return self._test(recipe.evaluation_turns, recipe.evaluation_dialogues, seed=recipe.seed + 1)

    def retention(
        self, model: RxTAlpha, num_turns: int, count: int, control: Control = "none", **changes: Any
    ) -> Mapping[str, tuple[float, int]]:
        """Return exact accuracy by distance on test dialogues, whose combinations training has not seen."""
        return self.recall.by_distance(model, self._test(num_turns, count, **changes), control)

    def evaluate(self, model: RxTAlpha) -> Mapping[str, float]:
        """Measure on other dialogues than the final test's; see `RecallTest.figures`."""
        return self.recall.figures(model, self.held_out())

    def results(self, model: RxTAlpha) -> RunResults:
        """Ask test dialogues of all lengths, the shortest ones also with an empty memory, and converse."""
        numbers = zip(self.recipe.test_turns, self.recipe.test_dialogues, strict=True)
        asked = {turns: self._test(turns, count) for turns, count in numbers}
        return RunResults(
            (self.recall.table(model, asked, "Exact recall by distance in turns", NOTE),), converse(model)
        )

    def _test(self, num_turns: int, count: int, **changes: Any) -> Sequence[Dialogue]:
        return self.generator(num_turns=num_turns, split="test", **changes).dialogues(count)


def converse(model: RxTAlpha, messages: Sequence[str] = MESSAGES) -> tuple[tuple[str, str], ...]:
    """Return a conversation, greedily answered: messages, with what they lost where they were too long, and answers."""
    conversation = Conversation(model.eval(), sampling=SamplingConfig(temperature=0.0))
    said = []
    for text in messages:
        answer = "".join(conversation.send(text, fit="cut"))
        cut = conversation.turns[-1].cut
        said.append((f"[its first {cut} tokens were cut] {text}" if cut else text, answer))
    return tuple(said)


class _TurnsOf(Sequence[Interaction]):
    """The turns of generated dialogues, one after another, as a sequence."""

    def __init__(self, generator: FactGenerator) -> None:
        self.generator, self.length = generator, generator.config.num_turns

    def __len__(self) -> int:
        return MANY

    def __getitem__(self, index: Any) -> Any:
        return self.generator.dialogue(index // self.length).turns[index % self.length]


def tiny() -> FactsRecipe:
    """The quickstart: 0.8 M parameters, all stages, six to thirteen minutes on two cores in two processes."""
    optimizer = OptimizerConfig(algorithm="muon", learning_rate=4e-3, warmup_steps=20)
    early = {"optimizer": optimizer, "checkpoint_every": None}
    dialogues = MemoryAwareStage(
        **steps_of(
            DialoguePhase(steps=80, num_turns=2),
            DialoguePhase(steps=80, num_turns=3),
            DialoguePhase(steps=120, num_turns=4),
            DialoguePhase(steps=120, num_turns=6),
        ),
        batch_size=64,
        optimizer=optimizer.replace(schedule="wsd", decay_share=0.3),
        evaluate_every=150,
    )
    streams = dialogues.replace(
        folder="4b-streams",
        **steps_of(DialoguePhase(steps=240, num_turns=8, streams=True)),
        optimizer=optimizer.replace(schedule="wsd", decay_share=0.5, gate_scale=5.0),
    )
    return FactsRecipe(
        name="tiny",
        **model_of_size("tiny"),
        question_share=0.55,  # more than in tests: it is their answers that a memory is learnt from
        repeat_share=0.3,
        unknown_share=0.04,
        chatter_share=0.02,
        stages=(
            language_stage(steps=40, batch_size=128, **early),
            interactions_stage(steps=100, batch_size=256, **early),
            MemoryAttentionStage(steps=20, batch_size=32, **early),
            dialogues,
            streams,
            reinforcement(steps=300, num_turns=8),
            *preference_stages(150, 32, 2e-4, loss="simpo", chosen_weight=1.0),
            reinforcement_from_feedback(steps=100, num_turns=8),
        ),
    )


def retention() -> FactsRecipe:
    """Half an hour on two cores: `tiny` with longer streams, to hold facts for hundreds of turns."""
    settings = MemoryAwareConfig(unroll=16)
    phases = steps_of(
        DialoguePhase(steps=400, num_turns=8, streams=True),
        DialoguePhase(steps=800, num_turns=16, streams=True, reset_probability=0.05),
    )
    base = tiny().with_stage("dialogues", settings=settings)
    optimizer = base.stage("streams").optimizer.replace(learning_rate=2e-3)
    return base.with_stage("streams", settings=settings, optimizer=optimizer, evaluate_every=200, **phases).replace(
        name="retention",
        stream_turns=256,
        evaluation_turns=128,
        test_turns=(8, 16, 32, 64, 128, 256),
        test_dialogues=(1000, 200, 100, 64, 64, 64),
    )
