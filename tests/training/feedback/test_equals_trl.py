"""DPO on dialogues of one turn, from the memory of a new conversation, is TRL's DPO."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from feedback_runs import turn_tokenizer
from pretrained_models import chat_tokenizer, save_language_model
from rxlm.data.preferences import Preference
from rxlm.data.records import Interaction
from rxlm.training.feedback.batches import feedback_batch
from rxlm.training.feedback.config import PreferenceConfig
from rxlm.training.feedback.module import PreferenceOptimisation
from rxlm.upcycling.model import upcycle

PAIRS = [
    Preference((), (Interaction(query, better),), (Interaction(query, worse),))
    for query, better, worse in (
        ("What is my name?", "You have not told me that.", "Your name is Anna."),
        ("My dog is called Rex.", "Rex must be a good dog.", "No."),
        ("Hello!", "Hello! How can I help?", "It is raining again."),
    )
]


@pytest.mark.filterwarnings("ignore")  # of TRL's and its dependencies', which are theirs to mend
@pytest.mark.parametrize("loss", ["dpo", "ipo"])
def test_the_loss_is_trls(loss: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    source = save_language_model("llama", tmp_path / "reference")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in source.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    source.save_pretrained(tmp_path / "policy")
    chat_tokenizer().save_pretrained(tmp_path / "policy")

    module = PreferenceOptimisation(
        upcycle(tmp_path / "reference", memory_tokens=80, max_seq_len=64), PreferenceConfig(loss=loss, beta=0.3)
    )
    module.model.load_state_dict(upcycle(tmp_path / "policy", memory_tokens=80, max_seq_len=64).state_dict())
    tokenizer = turn_tokenizer(module.model)  # type: ignore[arg-type]
    batch = feedback_batch(PAIRS, tokenizer)
    losses = module(batch, module.counts(batch))

    head = list(module.model.tokenizer_config.conversation_prefix or ())
    rows = []
    for pair in PAIRS:
        better, worse = (tokenizer.encode(said[0]) for said in pair.answers)
        first = better.first_target
        rows.append(
            {
                "prompt_ids": [*head, *better.ids[:first]],
                "chosen_ids": list(better.ids[first:]),
                "rejected_ids": list(worse.ids[first:]),
            }
        )
    trainer = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tmp_path / "policy"),
        ref_model=AutoModelForCausalLM.from_pretrained(tmp_path / "reference"),
        args=trl.DPOConfig(
            output_dir=str(tmp_path / "trl"), loss_type="sigmoid" if loss == "dpo" else "ipo", beta=0.3,
            report_to=[], use_cpu=True, bf16=False, disable_dropout=True,
        ),
        processing_class=chat_tokenizer(),
        train_dataset=datasets.Dataset.from_list([{"prompt": "Hi.", "chosen": " Yes.", "rejected": " No."}]),
    )  # fmt: skip
    inputs = trainer.data_collator(rows)
    expected = trainer.compute_loss(trainer.model, inputs)
    assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    if loss == "dpo":
        assert float(expected.detach()) != pytest.approx(0.6931, abs=1e-2), "policy and reference policy differ"
