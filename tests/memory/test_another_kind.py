"""A second kind of memory, of a few lines: nothing outside of `rxlm.memory` knows which kind a model has.

It keeps the embeddings of the newest tokens, whatever they are: no encoder, no gate, no slots. The laws hold for it,
and conversations, files, batches, the benchmark and training take it as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from helpers import ALPHA_TOKENS, COMPONENT, DIM, MAX_SEQ_LEN, assert_close, pad_at_end, shared_model, token_rows
from rxlm.cli import main
from rxlm.config import config
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.turn_tokenizer import TurnTokenizer
from rxlm.memory import FinishedTurn, MemoryConfig, MemoryReading, MemoryState, MemoryWriter
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.nn.key_values import KeyValueSource
from rxlm.rxt.accounting import memory_bytes, parameter_table, update_flops
from rxlm.rxt.config import RxTComponentConfig
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from text_models import tiny_tokenizer

PLACES = 5


@dataclass(frozen=True)
class NewestTokens(MemoryState):
    """Embeddings of the newest tokens of each conversation, the newest last, (B, K, D), and their number, (B,)."""

    kind: ClassVar[str] = "newest-tokens"
    kept: Tensor
    count: Tensor

    @property
    def batch_size(self) -> int:
        return self.kept.shape[0]

    @property
    def form(self) -> tuple[Any, ...]:
        return self.kind, *self.kept.shape[1:]

    def tensors(self) -> dict[str, Tensor]:
        return {"kept": self.kept, "count": self.count}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["kept"], tensors["count"])

    def select(self, rows: int | Sequence[int]) -> Self:
        index = [rows] if isinstance(rows, int) else list(rows)
        return type(self)(self.kept[index], self.count[index])

    @classmethod
    def concatenate(cls, states: Sequence[Any]) -> Self:
        return cls(torch.cat([state.kept for state in states]), torch.cat([state.count for state in states]))

    def where(self, chosen: Tensor, other: Self) -> Self:
        return type(self)(
            torch.where(chosen[:, None, None], self.kept, other.kept), torch.where(chosen, self.count, other.count)
        )

    def read(self) -> MemoryReading:
        return MemoryReading((KeyValueSource(self.kept), KeyValueSource(self.kept)))

    def drift(self, earlier: Self) -> Tensor:
        return (self.kept - earlier.kept).square().mean(dim=(1, 2)).sqrt()[None]

    def change(self, earlier: Self, kind: str) -> Tensor:
        return self.drift(earlier)[0].square()

    def describe(self, earlier: Self | None = None) -> list[str]:
        return [f"the newest {int(self.count[0])} tokens of {self.kept.shape[1]}"]


class NewestTokensWriter(MemoryWriter):
    """Embeds the tokens of a turn, and keeps the newest."""

    reads_encoded = False

    def __init__(self, settings: "NewestTokensConfig") -> None:
        super().__init__()
        self.config = settings
        self.embedding = nn.Embedding(settings.vocab_size, settings.dim)

    def first_memory(self, batch_size: int, seed: object = None) -> NewestTokens:
        weight = self.embedding.weight
        kept = weight.new_zeros(batch_size, self.config.num_places, self.config.dim)
        return NewestTokens(kept, torch.zeros(batch_size, dtype=torch.long, device=weight.device))

    def write(self, memory: NewestTokens, turn: FinishedTurn) -> NewestTokens:
        embedded, rows = self.embedding(turn.ids), []
        for row, seen in enumerate(embedded):
            new = seen if turn.mask is None else seen[turn.mask[row]]
            rows.append(torch.cat((memory.kept[row], new))[-self.config.num_places :])
        real = turn.ids.shape[1] if turn.mask is None else turn.mask.sum(1)
        return NewestTokens(torch.stack(rows), (memory.count + real).clamp(max=self.config.num_places))

    @property
    def num_places(self) -> int:
        return self.config.num_places

    def num_bytes(self, element_size: int) -> int:
        return self.config.num_places * self.config.dim * element_size

    def flops(self, num_tokens: int) -> int:
        return 0


@config
class NewestTokensConfig(MemoryConfig):
    """How many tokens are kept, of which vocabulary."""

    kind: ClassVar[str] = "newest-tokens"
    num_places: int = PLACES
    vocab_size: int = 40

    def build(self) -> NewestTokensWriter:
        return NewestTokensWriter(self)

    def describe(self) -> str:
        return f"the newest {self.num_places} tokens"


def build(vocab_size: int = COMPONENT["vocab_size"], **options: Any) -> RxTAlpha:
    torch.manual_seed(0)
    component = RxTComponentConfig(**{**COMPONENT, "num_layers": 2, "vocab_size": vocab_size})
    memory = NewestTokensConfig(num_layers=2, dim=DIM, max_seq_len=MAX_SEQ_LEN, vocab_size=vocab_size)
    model = RxTAlpha(component, component, memory, ALPHA_TOKENS, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def same(one: MemoryState, other: MemoryState) -> bool:
    return all(torch.equal(one.tensors()[name], values) for name, values in other.tensors().items())


def lived(model: RxTAlpha, rows: Sequence[Sequence[int]]) -> MemoryState:
    """The memories after one turn each."""
    laid_out = pad_at_end(rows)
    return model.update_memory(model.init_memory(len(rows)), laid_out.ids, laid_out.mask)


@given(rows=token_rows(min_rows=2, max_rows=4), later=token_rows(min_rows=4, max_rows=4))
@torch.no_grad()
def test_a_row_equals_the_row_alone_and_padding_is_invisible(rows, later):
    model = build().double()
    memory, laid_out = lived(model, rows), pad_at_end(later[: len(rows)])
    logits = model.decode(laid_out.ids, memory, laid_out.mask)
    after = model.update_memory(memory, laid_out.ids, laid_out.mask)
    for row, ids in enumerate(later[: len(rows)]):
        own, alone = lived(model, [rows[row]]), torch.tensor([ids])
        assert_close(laid_out.row(logits, row), model.decode(alone, own)[0])
        expected = model.update_memory(own, alone).tensors()
        for name, values in after.select(row).tensors().items():
            assert torch.equal(values, expected[name])


def test_cached_decoding_equals_uncached_decoding():
    model = build().double()
    memory = lived(model, [[9, 10, 11, 12]])
    ids = torch.tensor([[2, 5, 13, 14, 15]])
    with torch.no_grad():
        whole = model.decode(ids, memory)
        reading, cache = model.read_memory(memory), model.decoder.new_cache(1)
        parts = []
        for place in range(ids.shape[1]):
            parts.append(
                model.decoder.head(model.decoder.hidden_states(ids[:, place : place + 1], reading, cache=cache))
            )
            cache.advance_prompt([1])
    assert_close(torch.cat(parts, dim=1), whole)


def test_a_memory_goes_through_files_rows_and_types(tmp_path):
    model = build()
    memory = lived(model, [[9, 10], [11, 12, 13], [14]])
    memory.save(tmp_path / "memory.safetensors")
    again = MemoryState.load(tmp_path / "memory.safetensors")
    assert isinstance(again, NewestTokens)
    joined = MemoryState.join([again.select([2, 0]), memory.select(1)])
    swapped = memory.put([0], memory.select(2))
    assert same(joined, memory.select([2, 0, 1]))
    assert same(swapped, memory.select([2, 1, 2]))
    half = memory.to(dtype=torch.bfloat16)
    assert (half.dtype, half.tensors()["count"].dtype) == (torch.bfloat16, torch.long)
    with pytest.raises(ValueError, match="one form"):
        MemoryState.join([memory, build().init_memory().to(dtype=torch.float32), _slots()])


def _slots() -> MemoryState:
    return shared_model("mha-simple-content").init_memory()


def test_a_conversation_is_saved_continued_undone_and_forked(tmp_path):
    model = build(len(tiny_tokenizer()), tokenizer=tiny_tokenizer())

    def talk(chat: Conversation, *texts: str) -> list[str]:
        return ["".join(chat.send(text)) for text in texts]

    chat = Conversation(model, sampling=GREEDY)
    talk(chat, "Hi", "You")
    chat.save(tmp_path / "chat.safetensors")
    fork, loaded = chat.fork(), Conversation(model, sampling=GREEDY)
    loaded.load(tmp_path / "chat.safetensors")
    assert talk(chat, "Rex") == talk(fork, "Rex") == talk(loaded, "Rex")
    before = fork.memory
    talk(fork, "Hi")
    fork.undo()
    assert same(fork.memory, before)
    assert "newest" in "".join(chat.memory.describe())


def test_a_model_is_saved_and_loaded_with_its_kind_of_memory(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    again = RxTAlpha.from_pretrained(tmp_path)
    assert isinstance(again.memory_writer, NewestTokensWriter)
    ids = torch.tensor([[2, 5, 9]])
    memory = lived(model, [[9, 10]])
    with torch.no_grad():
        assert torch.equal(again.decode(ids, memory), model.decode(ids, memory))


def test_what_it_costs_is_asked_of_the_memory():
    model = build()
    assert memory_bytes(model) == PLACES * DIM * 4 == lived(model, [[9]]).tensors()["kept"].nbytes
    assert update_flops(model, 10) == 0
    assert parameter_table(model)["memory attention"].total == 40 * DIM


def test_rxlm_info_shows_a_model_with_it(tmp_path, capsys):
    build(len(tiny_tokenizer()), tokenizer=tiny_tokenizer()).save_pretrained(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert f"the newest {PLACES} tokens" in output
    assert f"{PLACES * DIM * 4:,} bytes" in output


def test_the_benchmark_asks_a_model_with_it_under_every_control():
    model = build(len(tiny_tokenizer()), tokenizer=tiny_tokenizer())
    respondent = RxTRespondent(model, max_answer_tokens=4)
    for control in respondent.controls:
        respondent.reset(3, control)
        assert len(respondent.respond(["My dog is called Rex.", None, "You are kind."])) == 3
        assert respondent.losses(["What is my dog called?"] * 3, ["Rex."] * 3)[0].tokens > 0
    respondent.reset(1)
    assert respondent.measure("You", 3).session_bytes > 0


def test_stage_4_trains_a_model_with_it():
    model = build(len(tiny_tokenizer()), tokenizer=tiny_tokenizer())
    turn = Interaction("My dog is called Rex.", "You are kind.")
    turn_tokenizer = TurnTokenizer(tiny_tokenizer(), model.tokenizer_config, max_tokens=MAX_SEQ_LEN)
    module = MemoryAware(model, MemoryAwareConfig())
    module.start_step(0)
    batch = module.prepare(turn_tokenizer.dialogue_batch([Dialogue((turn,) * 3)]), torch.Generator())
    losses = module(batch, module.counts(batch))
    losses.total.backward()
    assert model.memory_writer.embedding.weight.grad.abs().sum() > 0
    with torch.no_grad():
        assert "answer_loss_empty" in module.diagnose(batch)
