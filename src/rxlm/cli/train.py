"""`rxlm train`."""

import json
import os
import time
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from rxlm.cli.errors import printable, tell
from rxlm.cli.output import Output, as_here
from rxlm.cli.results import show
from rxlm.config import ConfigError
from rxlm.folders import require_folder
from rxlm.recipes import RECIPES, Recipe, open_run
from rxlm.recipes.plan import plan_table
from rxlm.recipes.training_run import TrainingRun
from rxlm.training import distributed
from rxlm.training.allocation import keep_freed_memory
from rxlm.training.distributed import Parallel
from rxlm.training.processes import sharing

LISTS = {"--conversations": "conversations", "--preferences": "{}.preferences"}
"""Options that take any number of values, and the fields of recipes, or of the stage that is named, that are lists."""
OPTIONS = ("--output", "--set", "--dry-run", "--device", "--parallel", "--processes", "--devices", "--help")
SECONDS_TO_FAIL = 3.0
"""In which the first process ends the others where it fails, too: what is wrong for all is said once."""


def train(
    recipe: Annotated[str, tyro.conf.Positional],
    stage: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    output: Path | None = None,
    set: tuple[str, ...] = (),  # the option's name
    dry_run: bool = False,
    device: str = "auto",
    parallel: Parallel = "ddp",
    processes: int = 1,
    devices: int | None = None,
) -> None:
    """Train a model by a recipe, or go on with a run that was interrupted.

    Every field of the recipe is an option, too: --dialogues.optimizer.learning-rate 0.001, --data FOLDER.

    Conversations of your own join what upcycled learns: --conversations chats.jsonl more/ --bad-records skip

    Feedback on answers changes which of them are given: rxlm train tiny feedback --preferences preferences.jsonl

    Under torchrun the rows of a batch are shared among the processes: torchrun --nproc-per-node 2 -m rxlm train tiny

    Args:
        recipe: tiny (the quickstart), retention, babi, stories, nano, micro, mini, alpha, llm (a stateless model), or
            upcycled, or upcycled-gpu (a pretrained language model learns to remember; needs --model).
        stage: train up to this stage and stop: language, interactions, memory_attention, dialogues, streams, or
            retention; mrl, feedback, reward and rlhf are trained only where they are named.
        output: folder of the run; runs/RECIPE if not given.
        set: fields of the recipe to change, as field=value.
        dry_run: print the whole recipe as JSON and stop; with --devices, the memory that each of so many devices needs.
        device: where to compute: auto (a CUDA GPU where there is one), cpu, cuda (under torchrun a GPU for each
            process), cuda:1, ...
        parallel: what each process of torchrun has: all weights (ddp), or a part of them, of their gradients and of the
            optimizer's state, for models that do not fit: divided among all processes (fsdp), or among those of each
            machine (hsdp).
        processes: processes of this machine that share the rows of each batch, on a CPU: small models are trained up to
            twice as fast by two on two cores. A batch is as large as with one.
        devices: with --dry-run: how many devices share the work.
    """
    if recipe not in RECIPES:
        raise ValueError(f"There is no recipe {recipe!r}; there are {', '.join(RECIPES)}.")
    chosen = RECIPES[recipe]().override(set)
    if devices is not None:
        if not dry_run or devices < 1:
            raise ValueError(f"--devices must be at least 1 and go with --dry-run, got {devices}.")
        Output().print(plan_table(chosen, devices, parallel, stage))
        return
    if dry_run:
        print(json.dumps(chosen.to_dict(), indent=2))
        return
    folder = output or Path("runs") / recipe
    require_folder(folder)
    keep_freed_memory()
    place = distributed.compute_device(device)
    _check(processes, place, parallel)
    chosen.require_shares(processes)
    distributed.start(place)
    with sharing(processes, share, chosen, folder, stage):
        run = open_run(chosen, folder, place, parallel, shares_rows=processes > 1)
        if distributed.rank() == 0:
            for note in run.notes(stage):
                print(printable(note), flush=True)
        model = run.train(stage)
        leads = distributed.rank() == 0
        if processes > 1 and run.is_finished(stage):
            run.results(model)  # together
    distributed.leave()
    if not leads:
        return
    if not run.is_finished(stage):
        go_on = f"rxlm train {recipe} --output {folder}"
        print(f"The model after stage {stage!r} is in {folder}; go on: {as_here(go_on)}")
        return
    finish(run, model, Output())


def _check(processes: int, place: torch.device, parallel: Parallel) -> None:
    """Raise ValueError where so many processes cannot share the work."""
    if processes < 1:
        raise ValueError(f"--processes must be at least 1, got {processes}.")
    if processes > 1 and (place.type != "cpu" or parallel != "ddp" or "WORLD_SIZE" in os.environ):
        raise ValueError(
            f"--processes {processes} is for a CPU, and a command of its own: on GPUs, and with --parallel {parallel}, "
            f"torchrun --nproc-per-node {processes} -m rxlm train starts them."
        )


def share(recipe: Recipe, folder: Path, stage: str | None = None) -> None:
    """Train and measure the same run in another process, which says nothing but what goes wrong."""
    keep_freed_memory()
    try:
        run = open_run(recipe, folder, shares_rows=True)
        model = run.train(stage)
        if run.is_finished(stage):
            run.results(model)
    except Exception as error:
        time.sleep(SECONDS_TO_FAIL)
        raise SystemExit(tell(error, "rxlm train", debug=False)) from None


def finish(run: TrainingRun[Any, Any], model: Any, console: Output) -> None:
    """Show what a finished run was measured to do, write its report, and say how to go on."""
    from rxlm.reporting.report import write_report  # slow to import, and only needed now

    show(run.results(model), console)
    cut = run.turn_tokenizer.num_cut
    if cut:
        console.print(
            f"{cut:,} turns that this process read were longer than {run.recipe.max_tokens} tokens and were cut."
        )
    page = write_report(run.folder)
    console.rule()
    console.print(f"Curves and tables: {page}\nGo on: [bold]{as_here(run.what_next())}[/bold]", soft_wrap=True)


def rewrite(words: Sequence[str]) -> list[str]:
    """Turn options that are fields of a recipe, `--name.field value` or `--name.field=value`, into those of --set."""
    kept, changes = [], []
    rest = list(words)
    stage = "reward" if "reward" in takewhile(lambda word: not word.startswith("--"), rest) else "feedback"
    while rest:
        word = rest.pop(0)
        name, separator, value = word.partition("=")
        if word == "--set":
            while rest and not rest[0].startswith("--"):
                changes.append(rest.pop(0))
        elif not word.startswith("--") or name in OPTIONS:
            kept.append(word)
        elif name in LISTS:
            values = [value] if separator else []
            while rest and not rest[0].startswith("--"):
                values.append(rest.pop(0))
            if not values:
                raise ConfigError(f"The option {word} needs a value.")
            changes.append(f"{LISTS[name].format(stage)}={json.dumps(values)}")
        else:
            if not separator:
                if not rest or rest[0].startswith("--"):
                    raise ConfigError(f"The option {word} needs a value.")
                value = rest.pop(0)
            changes.append(f"{name[2:].replace('-', '_')}={value}")
    return [*kept, *(["--set", *changes] if changes else [])]
