"""`rxlm quickstart`: trains a small model, talks with it and measures what it remembers."""

import time
from pathlib import Path

import torch

from rxlm.cli.output import Output
from rxlm.cli.train import finish, share
from rxlm.folders import is_saved, require_folder
from rxlm.recipes import open_run
from rxlm.recipes.facts import tiny
from rxlm.recipes.upcycled import upcycled
from rxlm.training import distributed
from rxlm.training.allocation import keep_freed_memory
from rxlm.training.processes import sharing

MOST_PROCESSES = 2
"""That share the training of the small model on a CPU, where there are as many cores."""
UPCYCLED_TIME = "about two hours on two cores for a model of 135 million parameters, in proportion for others"


def quickstart(*, upcycle: str | None = None, output: Path | None = None, device: str = "auto") -> None:
    """Train a small Reactive Transformer on this machine and see what it remembers.

    Trains a tokenizer and the model `tiny` through stages 1 to 4 on generated dialogues (six to thirteen minutes
    on two cores, in two processes), talks with it, prints how often it answers exactly, by the distance in turns
    between a fact and the question about it, and writes a report. When the command is given again, the run goes on
    where it stopped; of a finished run it shows the results.

    With --upcycle the model is a pretrained chat model instead, which learns to remember; that takes longer.

    Args:
        upcycle: folder or hub id of a Llama- or Qwen-style chat model, or a GGUF file.
        output: folder of the run; runs/quickstart, or runs/upcycled, if not given.
        device: where to compute: auto (a CUDA GPU where there is one), cpu, cuda, cuda:1, ...
    """
    console = Output()
    recipe, name = (tiny(), "quickstart") if upcycle is None else (upcycled().replace(model=upcycle), "upcycled")
    folder = output or Path("runs") / name
    require_folder(folder)
    duration = "six to thirteen minutes on two cores" if upcycle is None else UPCYCLED_TIME
    console.rule("Training")
    console.print(f"In {folder}; {duration}.")
    keep_freed_memory()
    place = distributed.compute_device(device)
    is_small = upcycle is None and place.type == "cpu" and not is_saved(folder, "config.json")
    with sharing(min(MOST_PROCESSES, torch.get_num_threads()) if is_small else 1, share, recipe, folder):
        run = open_run(recipe, folder, place, shares_rows=True)
        console.print(f"Stages: {', '.join(stage.folder for stage in run.recipe.stages if not stage.on_request)}.")
        started = time.perf_counter()
        model = run.train()
        console.print(f"Trained in {(time.perf_counter() - started) / 60:.1f} minutes.")
        run.results(model)  # together
    finish(run, model, console)
