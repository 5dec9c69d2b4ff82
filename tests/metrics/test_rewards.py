"""BLEU as a reward: the scores of `tensor_sentence_bleu`, in the signature that TRL calls."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rxlm.metrics.rewards import BleuReward
from rxlm.metrics.tensorbleu import bleu_signature, tensor_sentence_bleu

WORDS = {"a": 5, "small": 6, "dog": 7, "cat": 8, "ran": 9}


def tokenize(text: str) -> list[int]:
    return [WORDS[word] for word in text.split()]


def test_rewards_are_sentence_scores() -> None:
    completions = [[5, 6, 7, 9], [5, 8], [5, 6, 8, 9]]
    references = [[5, 6, 7, 9], [[5, 6, 7, 9], [5, 8, 9]], [[5, 6, 7, 9]]]
    reward = BleuReward(max_n=2, smoothing_method="floor")
    rewards = reward(
        prompts=["?"] * 3, completions=["x"] * 3, completion_ids=completions, references=references, extra=0
    )

    groups = [[references[0]], references[1], references[2]]
    expected = tensor_sentence_bleu(completions, groups, max_n=2, smoothing_method="floor")
    assert rewards == expected.tolist()
    assert rewards[0] == 1.0
    assert reward.signature == bleu_signature(max_n=2, smoothing_method="floor")


@pytest.mark.parametrize("nothing", [None, [], ""])
def test_a_row_without_references_has_no_reward(nothing: Any) -> None:
    reward = BleuReward(max_n=1)

    assert reward(completion_ids=[[5], [5]], references=[nothing, [5]]) == [None, 1.0]
    assert reward(completion_ids=[[5]], references=[nothing]) == [None]


def test_a_completion_is_scored_up_to_the_end_of_sequence() -> None:
    reward = BleuReward("answer", eos_token_id=3, max_n=2)

    assert reward(completion_ids=[[5, 6, 3], [5, 6], [3]], answer=[[5, 6]] * 3) == [1.0, 1.0, 0.0]
    assert BleuReward("answer", max_n=2)(completion_ids=[[5, 6, 3]], answer=[[5, 6]])[0] < 1.0


def test_texts_are_tokenized() -> None:
    reward = BleuReward("answers", tokenize=tokenize, max_n=2)
    chat = [{"role": "assistant", "content": "a small dog ran"}]
    completions = ["a small dog ran", [5, 6, 7, 9], chat]

    assert (
        reward(completions=completions, answers=["a small dog ran", ["a cat", "a small dog ran"], [[5, 6, 7, 9]]])
        == [1.0] * 3
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"completion_ids": [[5]], "answers": [[5]]}, r"'references' is missing; .*\['answers'\]"),
        ({"completion_ids": [[5]], "references": [[5], [6]]}, "has 2 rows; there are 1"),
        ({"references": [[5]]}, "both missing"),
        ({"completion_ids": [[5]], "references": ["a dog"]}, "'a dog' and has no tokenize"),
        ({"completions": ["a dog"], "references": [[5]]}, "'a dog' and has no tokenize"),
        ({"completion_ids": [[-1]], "references": [[5]]}, "out of range"),
    ],
)
def test_bad_calls_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BleuReward()(**arguments)


def test_chat_messages_may_have_no_content_or_parts() -> None:
    reward = BleuReward(tokenize=lambda text: [ord(letter) for letter in text])
    parts = [{"type": "text", "text": "a cat "}, {"type": "image"}, {"type": "text", "text": "sat"}]
    said = [[{"role": "assistant", "content": content}] for content in (None, parts, "a cat sat")]
    assert reward(completions=said, references=["a cat sat"] * 3) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("make", [np.array, torch.tensor, list, lambda ids: [np.int64(each) for each in ids]])
def test_ids_may_be_arrays(make: Any) -> None:
    ids = [5, 6, 7, 8, 9]
    for references in (make(ids), [make(ids)], [make(ids), make(ids[::-1])]):
        assert BleuReward()(completion_ids=[make(ids)], references=[references]) == [1.0]


def test_bad_choices_are_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="smoothing_method is 'exponential'"):
        BleuReward(smoothing_method="exponential")


def test_a_reward_function_can_be_sent_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(BleuReward(max_n=1)))

    assert copy(completion_ids=[[5]], references=[[5]]) == [1.0]


@pytest.mark.filterwarnings("ignore")  # of TRL's and its dependencies', which are theirs to mend
def test_trls_grpo_trains_on_it(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    reward = Recording("answer_ids", eos_token_id=1, max_n=2, smoothing_method="floor")
    rows = {"prompt": ["a small dog"] * 8, "answer_ids": [[5, 6, 7, 9]] * 8}
    trainer = trl.GRPOTrainer(
        model=tiny_model(),
        processing_class=tiny_tokenizer(),
        reward_funcs=reward,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, num_generations=4, learning_rate=1e-2,
            max_completion_length=8, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, bf16=False,
            disable_tqdm=True, gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_dict(rows),
    )  # fmt: skip
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train()

    logged = [line["rewards/bleu/mean"] for line in trainer.state.log_history if "rewards/bleu/mean" in line]
    assert len(logged) == len(reward.given) == 3
    assert logged == pytest.approx([sum(rewards) / len(rewards) for rewards in reward.given], abs=1e-6)
    assert len({score for rewards in reward.given for score in rewards}) > 1
    assert any(not torch.equal(old, new) for old, new in zip(before, trainer.model.parameters(), strict=True))
    assert all(math.isfinite(line["loss"]) for line in trainer.state.log_history if "loss" in line)


class Recording(BleuReward):
    """Keeps what it returned."""

    def __init__(self, column: str, **options: Any) -> None:
        super().__init__(column, **options)
        self.given: list[list[Any]] = []

    def __call__(self, *arguments: Any, **columns: Any) -> list[float | None]:
        self.given.append(super().__call__(*arguments, **columns))
        return self.given[-1]


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[EOS]": 1, "[UNK]": 2, **WORDS}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", padding_side="left"
    )


def tiny_model() -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=10, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None, eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip
