"""What takes causal models of `transformers` takes ours: pipeline, Trainer, TRL, PEFT, lm-evaluation-harness."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments, pipeline

from language_models import language_model
from rxlm.data.tokenizer import train_tokenizer
from rxlm.llm import DecoderLMForCausalLM
from rxlm.recipes.llm import CHAT_TEMPLATE

TEXTS = ["The cat sat on the mat.", "A dog ran after the cat.", "The mat was red and the dog was old."] * 8


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    trained = train_tokenizer(TEXTS, 300)
    trained.chat_template = CHAT_TEMPLATE
    return trained


def model_for(tokenizer: PreTrainedTokenizerFast) -> DecoderLMForCausalLM:
    return language_model(vocab_size=len(tokenizer)).train()


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }


def losses(trainer: Trainer) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def test_a_pipeline_generates_text(tokenizer: PreTrainedTokenizerFast) -> None:
    generate: Any = pipeline("text-generation", model=model_for(tokenizer).eval(), tokenizer=tokenizer, device="cpu")
    text = generate("The cat", max_new_tokens=5, do_sample=False, return_full_text=True)[0]["generated_text"]

    assert text.startswith("The cat")
    assert len(text) > len("The cat")


def test_the_trainer_trains_and_its_checkpoint_loads(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [{"input_ids": ids, "labels": ids} for ids in (tokenizer(text)["input_ids"][:8] for text in TEXTS)]
    trainer = Trainer(
        model=model_for(tokenizer),
        args=TrainingArguments(**arguments(tmp_path), save_steps=6),
        train_dataset=Dataset.from_list([row for row in rows if len(row["input_ids"]) == 8]),
    )
    trainer.train()
    loaded = DecoderLMForCausalLM.from_pretrained(tmp_path / "checkpoint-6")

    assert losses(trainer)[-1] < losses(trainer)[0]
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name])


@pytest.mark.filterwarnings("ignore")  # of TRL and PEFT about themselves
@pytest.mark.parametrize("lora", [False, True])
def test_supervised_fine_tuning_with_and_without_lora(
    lora: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    talk = [[{"role": "user", "content": "Where is the cat?"}, {"role": "assistant", "content": "On the mat."}]] * 24
    trainer = SFTTrainer(
        model=model_for(tokenizer),
        args=SFTConfig(**arguments(tmp_path), max_length=64),
        train_dataset=Dataset.from_dict({"messages": talk}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM") if lora else None,
    )
    trainer.train()

    assert losses(trainer)[-1] < losses(trainer)[0]
    learnt = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert all("lora" in name for name in learnt) is lora


@pytest.mark.filterwarnings("ignore")  # of lm-evaluation-harness and what it imports
def test_the_evaluation_harness_runs_a_local_task(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    questions = [
        {"question": "The cat sat on the", "choices": ["mat.", "dog."], "answer": 0},
        {"question": "A dog ran after the", "choices": ["mat.", "cat."], "answer": 1},
    ]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tmp_path / "cats.yaml").write_text(
        "task: cats\n"
        "dataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'questions.jsonl'}}}}}\n"
        "test_split: test\n"
        "output_type: multiple_choice\n"
        'doc_to_text: "{{question}}"\n'
        "doc_to_target: answer\n"
        'doc_to_choice: "{{choices}}"\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    model = model_for(tokenizer).eval()
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=2),
        tasks=["cats"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )

    assert found is not None
    with torch.no_grad():
        right = 0
        for each in questions:
            scores = []
            for choice in each["choices"]:
                whole = tokenizer(f"{each['question']} {choice}")["input_ids"]
                start = tokenizer(each["question"])["input_ids"]
                logits = model(torch.tensor([whole])).logits[0].log_softmax(-1)
                scores.append(sum(float(logits[i - 1, whole[i]]) for i in range(len(start), len(whole))))
            right += int(scores[each["answer"]] == max(scores))
    assert found["results"]["cats"]["acc,none"] == right / len(questions)
