"""Training of a large model with its weights divided (FSDP): the same losses as whole, and tokens a second.

    torchrun --nproc-per-node 1 benchmarks/sharded_training.py --device cuda
    torchrun --nproc-per-node 2 benchmarks/sharded_training.py --device cpu --dim 64 --num-layers 2 --ff-dim 128

Without other options the model has the shape of Llama 3.2 1B, with random weights and a small vocabulary. Three arms
learn retention from generated dialogues: all weights in every process, divided, and divided with adapters (LoRA). Shown
are the largest difference of the first two arms' losses, tokens a second, and the share of the rate at which the device
multiplies matrices: (2 + 2 + 4) operations a weight and token, or (2 + 2 + 2) with adapters, of the language model, the
forward and the backward pass. For a GPU this needs a few minutes.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.distributed as dist
import tyro
from rich.console import Console
from rich.table import Table

from records import RESULTS, Record
from retention_runs import Shape, retention_run
from rxlm.rxt.models import RxTAlpha
from rxlm.training import distributed
from rxlm.training.distributed import Parallel
from rxlm.training.precision import product_rate, time_of
from rxlm.training.retention.config import RetentionConfig
from rxlm.training.trainer import Trainer


@dataclass
class Options:
    """What is measured.

    Args:
        shape: of the model.
        device: cpu or cuda. precision: of matrix products.
        steps: of each arm; the first is not timed. rows, turns: of a microbatch in each process.
        output: folder of the results.
    """

    shape: Annotated[Shape, tyro.conf.arg(name="")] = field(
        default_factory=lambda: Shape(dim=2048, num_layers=16, num_heads=32, num_kv_heads=8, ff_dim=8192)
    )
    device: str = "cuda"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    steps: int = 8
    rows: int = 4
    turns: int = 12
    output: Path = RESULTS


ARMS: dict[str, tuple[Parallel, int]] = {"whole": ("ddp", 0), "divided": ("fsdp", 0), "with adapters": ("fsdp", 16)}


def measure(options: Options, folder: Path, parallel: Parallel, lora_rank: int) -> dict[str, list[float]]:
    """Train an arm; return its losses, and the seconds and tokens of each step, all processes together."""
    device = distributed.compute_device(options.device)
    settings = RetentionConfig(sizes=(64,), keep=0.0, wording_share=1.0, lora_rank=lora_rank, longest_dialogue=4096)
    run, stage = retention_run(
        folder, options.shape, options.device, parallel, options.turns, settings, steps=options.steps,
        batch_size=options.rows, precision=options.precision,
    )  # fmt: skip
    model = RxTAlpha.from_pretrained(folder / "start", mapped=parallel != "ddp").train()
    module = stage.module(model if parallel != "ddp" else model.to(device))
    name = f"{parallel}-{lora_rank}"
    trainer = Trainer(name, module, run.batches(stage, module), stage, folder / name, parallel=parallel, device=device)
    trainer._save = lambda: None
    seconds, tokens = [], []
    step = trainer._train_step

    def timed():
        started = time_of(device)
        trained = step()
        seconds.append(time_of(device) - started)
        tokens.append(distributed.sum_over_processes({"tokens": float(trained.tokens)})["tokens"])
        return trained

    trainer._train_step = timed
    trainer.run()
    lines = (folder / name / "metrics.jsonl").read_text().splitlines() if distributed.rank() == 0 else []
    weights = float(sum(each.numel() for each in model.parameters()))
    return {
        "losses": [json.loads(line)["loss"] for line in lines], "seconds": seconds, "tokens": tokens,
        "weights": [weights],
    }  # fmt: skip


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure the arms, and show a table."""
    device = distributed.compute_device(options.device)
    distributed.start(device)
    shared = [tempfile.mkdtemp() if distributed.rank() == 0 else None]
    dist.broadcast_object_list(shared)
    assert shared[0] is not None
    found = {name: measure(options, Path(shared[0]), *arm) for name, arm in ARMS.items()}
    if distributed.rank() != 0:
        return
    dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    rate = product_rate(dtype, 8192 if device.type == "cuda" else 1024, device=device)
    rate *= distributed.world_size() if device.type == "cuda" else 1
    record, table = Record(options.output / "sharded_training.json", options), Table()
    for name in ("", "parameters", "tokens a second", "share of the product rate", "first and last loss"):
        table.add_column(name)
    for name, one in found.items():
        speed = sum(one["tokens"][1:]) / sum(one["seconds"][1:])
        operations = 6 if name == "with adapters" else 8
        share = operations * one["weights"][0] * speed / rate
        record.add(f"{name}: tokens a second", speed, "tokens/s", better="more")
        record.add(f"{name}: share of the product rate", share, "", better="more", kind="ratio")
        ends = f"{one['losses'][0]:.4f}, {one['losses'][-1]:.4f}"
        table.add_row(name, f"{one['weights'][0] / 1e6:.0f} M", f"{speed:,.0f}", f"{share:.0%}", ends)
    pairs = zip(found["whole"]["losses"], found["divided"]["losses"], strict=True)
    difference = max(abs(whole - divided) for whole, divided in pairs)
    record.add("largest difference of losses, whole and divided", difference, "nats", better="less", kind="ratio")
    console = Console()
    console.print(table, f"Largest difference of losses, whole and divided: {difference:.2e}", sep="\n")
    record.save()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
