"""Models, conversations and memories that an earlier version saved give the same tokens and logits today.

Those that it upcycled are refused: slots that copy are gone.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rxlm.config import ConfigError
from rxlm.llm import DecoderLMForCausalLM
from rxlm.memory import FinishedTurn, MemoryState, SlotState
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha, RxTBeta, RxTDecoder, RxTEncoder, RxTMemoryAttention
from rxlm.rxt.sampling import SamplingConfig

FOLDER = Path(__file__).parent
MODELS = {"alpha": RxTAlpha, "beta": RxTBeta}
GREEDY = SamplingConfig(temperature=0.0)
SAMPLED = SamplingConfig(temperature=0.9, top_k=20, top_p=0.95)


@cache
def model(name: str) -> RxTAlpha:
    return RxTAlpha.from_pretrained(FOLDER / name)


@cache
def expected(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "expected.json").read_text())


def tensors(name: str) -> dict[str, Tensor]:
    return load_file(FOLDER / name / "expected.safetensors")


def continued(name: str) -> Conversation:
    conversation = Conversation(model(name))
    conversation.load(FOLDER / name / "conversation.safetensors")
    return conversation


def answer(conversation: Conversation, name: str, query: str, **options: Any) -> list[int]:
    """Return the token ids of a whole turn."""
    list(conversation.send(query, max_seq_len=expected(name)["max_seq_len"], **options))
    return list(conversation.turns[-1].ids)


def assert_close(actual: Tensor, wanted: Tensor) -> None:
    # Relative, too: another processor than the one that wrote the files adds in another order.
    torch.testing.assert_close(actual, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_as_its_class_with_its_tokenizer(name: str) -> None:
    assert type(model(name)) is MODELS[name]
    assert model(name).tokenizer is not None


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_logits_and_the_updated_memory_are_the_same(name: str) -> None:
    ids = torch.tensor([expected(name)["interaction"]])
    memory = MemoryState.load(FOLDER / name / "memory.safetensors")
    after = model(name).update_memory(memory, ids)

    assert isinstance(after, SlotState)
    assert_close(model(name).decode(ids, memory), tensors(name)["logits"])
    assert_close(after.slots, tensors(name)["updated_memory"])


@pytest.mark.parametrize("name", MODELS)
def test_a_conversation_is_accepted_with_its_transcript_and_memory(name: str) -> None:
    conversation = continued(name)
    kept, memory = MemoryState.load(FOLDER / name / "memory.safetensors"), conversation.memory

    assert [list(turn.ids) for turn in conversation.turns] == expected(name)["transcript"]
    assert isinstance(kept, SlotState)
    assert isinstance(memory, SlotState)
    assert torch.equal(memory.slots, kept.slots)


@pytest.mark.parametrize("name", MODELS)
def test_a_conversation_continues_with_the_same_tokens(name: str) -> None:
    conversation, wanted = continued(name), expected(name)

    assert [answer(conversation, name, query, sampling=GREEDY) for query in wanted["queries"]] == wanted["greedy"]
    assert answer(conversation, name, wanted["sampled_query"], sampling=SAMPLED, seed=7) == wanted["sampled"]


def test_an_upcycled_model_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"upcycled is of a .* rxlm 0\.1\.0 loads it, and `rxlm upcycle MODEL OUT`"):
        RxTAlpha.from_pretrained(FOLDER / "upcycled")


@torch.no_grad()
def test_components_that_were_saved_alone_compute_the_same() -> None:
    folder, wanted = FOLDER / "components", tensors("components")
    ids, memory = wanted["ids"], SlotState(wanted["memory"])
    encoded = RxTEncoder.from_pretrained(folder / "encoder")(ids)
    network = RxTMemoryAttention.from_pretrained(folder / "memory_attention")
    written = network.write(memory, FinishedTurn(ids, None, wanted["encoded"]))

    assert_close(RxTDecoder.from_pretrained(folder / "decoder")(ids, memory), wanted["logits"])
    assert_close(encoded, wanted["encoded"])
    assert isinstance(written, SlotState)
    assert_close(written.slots, wanted["written"])


@torch.no_grad()
def test_a_language_model_gives_the_same_answer() -> None:
    network = DecoderLMForCausalLM.from_pretrained(FOLDER / "language_model").eval()
    wanted = tensors("language_model")
    prompt = wanted["ids"][:, : int(wanted["prompt_length"])]
    out = network.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)

    assert torch.equal(out, wanted["ids"])
    assert_close(network(input_ids=out).logits, wanted["logits"])
