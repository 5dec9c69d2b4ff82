"""An upcycled chat model beside the language model that it was made of, with its whole history (law 10).

    python benchmarks/whole_history.py SmolLM2-135M-Instruct.gguf --memory-tokens 512

Both hold one greedy conversation. Prints for each turn how many tokens were said and are kept, the largest difference
of the logits of the turn, and whether the answers are the same. While everything is kept, differences are rounding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from records import RESULTS, Record
from rxlm.nn.pretrained import Pretrained
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.sampling import GREEDY
from rxlm.upcycling.model import upcycle

MESSAGES = (
    "Hello! My name is Marlena.",
    "I am planning a trip to Lisbon with my sister Clara.",
    "What should we see there first?",
    "How should we get around the city?",
    "What would you pack?",
    "Who am I travelling with?",
    "What is my name?",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared.

    Args:
        model: folder, hub id or GGUF file of a chat model.
        memory_tokens: tokens that the upcycled model keeps.
        answer_tokens: the longest answer.
        output: folder for the figures.
    """

    model: Annotated[str, tyro.conf.Positional]
    memory_tokens: int = 512
    answer_tokens: int = 40
    output: Path = RESULTS


@torch.no_grad()
def main(settings: Settings) -> None:
    """Converse, and compare."""
    language_model = Pretrained(settings.model).model.eval()
    model = upcycle(settings.model, memory_tokens=settings.memory_tokens)
    tokenizer, tokens = model.needed_tokenizer(), model.tokenizer_config
    chat, messages = Conversation(model, sampling=GREEDY), []
    record = Record(settings.output / "whole_history.json", settings)
    print(f"{'said':>6} {'kept':>6} {'largest difference':>20}  same answer")
    for message in MESSAGES:
        messages.append({"role": "user", "content": message})
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        asked = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        found = language_model.generate(
            asked, do_sample=False, max_new_tokens=settings.answer_tokens, pad_token_id=tokens.pad_token_id
        )
        theirs = tokenizer.decode(found[0, asked.shape[1] :], skip_special_tokens=True)
        before = chat.memory
        query = model.tokenize_query(message)["input_ids"]
        limit = query.shape[1] + len(tokens.before_answer) + settings.answer_tokens
        answer = "".join(chat.send(message, max_seq_len=limit))
        turn = torch.tensor([chat.turns[-1].ids])
        messages.append({"role": "assistant", "content": answer})
        whole = torch.cat((asked[:, : asked.shape[1] - query.shape[1] - len(tokens.before_answer)], turn), 1)
        expected = language_model(whole).logits[:, -turn.shape[1] :]
        difference = (model.decode(turn, before) - expected).float().abs().max().item()
        memory = chat.memory
        print(f"{int(memory.length):6} {int(memory.num_kept.min()):6} {difference:20.2e}  {answer == theirs}")
        record.add(f"turn {len(chat.turns)}/largest difference", difference, "of a logit", better="less", kind="ratio")
        record.add(f"turn {len(chat.turns)}/same answer", answer == theirs, "", better="more", kind="exact")
    record.save()
    for turn in chat.turns:
        print(f"\nyou> {turn.query}\n{turn.answer}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
