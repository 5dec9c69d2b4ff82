"""The loop. It does not know which stage it runs."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rxlm.nn.layer import TransformerLayer
from rxlm.seeds import derived_seed
from rxlm.training import distributed
from rxlm.training.ahead import BatchesAhead
from rxlm.training.checkpoint import Checkpoints
from rxlm.training.config import TrainingConfig
from rxlm.training.distributed import Parallel
from rxlm.training.module import Counts, StageModule
from rxlm.training.optimizer import (
    build_optimizers,
    load_optimizer_state,
    loss_and_norms,
    optimizer_state,
    parameter_groups,
    scale_gradients,
    set_rate,
)
from rxlm.training.precision import gains_by_bfloat16
from rxlm.training.sharding import is_sharded, reach_alike, send_gradients, shard
from rxlm.training.tracking import Pace, ProgressView, Tracker

LOGGER = logging.getLogger(__name__)
WRITTEN = "checkpoints written"

Evaluation = Callable[[], Mapping[str, float]]
"""Measures the model and returns figures; the first is the one that decides which checkpoint is best (higher is)."""


class Batches(Protocol):
    """An endless source of microbatches that can be put back where it was.

    One whose batches depend on the model as it is then has `follows_model`, True.
    """

    def __next__(self) -> Any:
        """Return the next microbatch; `num_tokens` of it are not padding."""

    def state_dict(self) -> dict[str, Any]:
        """Return where the source stands."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the source where it stood."""

    def load_resharded(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on after the states of another number of processes, as far as that can be done."""


class NotFiniteError(FloatingPointError):
    """A loss or gradient that is not a number: nothing was learnt from it, and the last checkpoint is whole."""


class TrainedStep(NamedTuple):
    """What a step leaves.

    Fields:
        figures: name and value of each figure, a share from each microbatch, still on the device.
        norms: of the gradients. tokens: of this process's batches. batch: the last microbatch.
    """

    figures: list[tuple[str, Tensor]]
    norms: dict[str, float]
    tokens: int
    batch: Any


class Trainer:
    """Trains one stage, from the last checkpoint in its folder if there is one.

    Args:
        stage: name of the stage, for the log.
        module: the stage.
        batches: where its microbatches come from.
        config: see `TrainingConfig`.
        folder: of the stage; checkpoints and figures go there.
        evaluation: measures the model every `config.evaluate_every` steps.
        num_cut: tells how many turns have been cut so far because they were too long, for the log.
        parallel: how processes share the work. With "fsdp" or "hsdp" the module's weights are divided here, and its
            parameters are others from then on.
        device: of this process; None: where the module is.
    """

    def __init__(
        self,
        stage: str,
        module: StageModule,
        batches: Batches,
        config: TrainingConfig,
        folder: Path,
        *,
        evaluation: Evaluation | None = None,
        num_cut: Callable[[], int] | None = None,
        parallel: Parallel = "ddp",
        device: torch.device | None = None,
    ) -> None:
        self.stage, self.module, self.config, self.folder = stage, module, config, folder
        self.evaluation, self.num_cut, self.device = evaluation, num_cut, device or module.device
        # On a CPU the cores are busy with the step.
        makes_ahead = self.device.type == "cuda" and not getattr(batches, "follows_model", False)
        self.batches: Batches = BatchesAhead(batches) if makes_ahead else batches
        self.precision = self._precision()
        for layer in module.modules():
            if isinstance(layer, TransformerLayer):
                layer.recomputes = config.activation_checkpointing
        if parallel != "ddp":
            replicas = distributed.num_nodes() if parallel == "hsdp" else 1
            shard(module, self.device, precision=self.precision, replicas=replicas)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.keep_last)
        self.optimizers = build_optimizers(module, config.optimizer)
        self.generator = torch.Generator().manual_seed(config.seed + distributed.rank())
        self.groups = parameter_groups(module)
        self.step, self.saved_step = 0, -1
        self.best: tuple[int, float] | None = None
        self.evaluations_since_best = 0

    @distributed.naming_lost()
    def run(self) -> None:
        """Train to the last step, or until evaluation no longer improves; then the best weights are back in place."""
        torch.manual_seed(self.config.seed + distributed.rank())
        self._resume()
        leads = distributed.rank() == 0
        tracker = Tracker(self.folder, self.stage, self.step) if leads else None
        view = ProgressView(self.stage, self.step, self.config.steps) if leads else None
        pace = Pace(self.step, self.config.steps)
        try:
            while self.step < self.config.steps and not self._is_stale():
                started = time.perf_counter()
                trained = self._train_step()
                self.step += 1
                pace.add(trained.tokens, time.perf_counter() - started)
                if self._is_due(self.config.log_every):
                    figures = self._read_figures(trained, pace)
                    self.module.see_figures(self.step, figures)
                    if tracker is not None and view is not None:
                        tracker.log(self.step, figures)
                        view.update(self.step, figures)
                if self._is_due(self.config.evaluate_every):
                    self._evaluate(tracker)
                if self._is_due(self.config.checkpoint_every):
                    self._save()
            self._save()
            self.checkpoints.commit()
            self._go_back_to_best()
        finally:
            if isinstance(self.batches, BatchesAhead):
                self.batches.close()
            if tracker is not None and view is not None:
                tracker.close()
                view.close()

    def _train_step(self) -> TrainedStep:
        """Train one step; its figures stay on the device."""
        self.module.train()
        self.module.start_step(self.step)
        set_rate(self.optimizers, self.config.optimizer.rate(self.step, self.config.steps))
        taken = [next(self.batches) for _ in range(self.config.accumulation)]
        microbatches = [self.module.prepare(batch, self.generator) for batch in taken]
        totals = self._totals([self.module.counts(batch) for batch in microbatches])
        figures: list[tuple[str, Tensor]] = []
        loss = torch.zeros((), device=self.device)
        reached: set[Tensor] = set()
        for number, batch in enumerate(microbatches, 1):
            is_last = number == len(microbatches)
            send_gradients(self.module, now=is_last)
            with self.autocast():
                losses = self.module(batch, totals)
            reach_alike(self.module, losses.total, reached, now=is_last).backward()
            loss = loss + losses.total.detach()
            figures += [("loss", losses.total.detach()), *losses.figures.items()]
        if not is_sharded(self.module):
            distributed.sum_gradients(self._trained())
        # The one value a step that the host waits for: a step that is not finite must not be taken.
        read, norms = loss_and_norms(loss, self.groups)
        self._clip_and_check_finite(read, norms["gradient_norm"])
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return TrainedStep(figures, norms, sum(batch.num_tokens for batch in taken), microbatches[-1])

    def _read_figures(self, trained: TrainedStep, pace: Pace) -> dict[str, float]:
        """Return what is logged of a step, over all processes: one read, and one message."""
        with self._measuring(), self.autocast():
            measured = self.module.with_weights(lambda: self.module.diagnose(trained.batch))
        others = [(name, value / distributed.world_size()) for name, value in measured.items()]
        if self.num_cut is not None:
            others.append(("truncated/turns", float(self.num_cut())))
        figures = distributed.sum_of_figures([*trained.figures, ("tokens", pace.tokens), *others])
        pace.tokens = figures.pop("tokens")
        rate = self.optimizers[0].param_groups[0]["lr"]
        return figures | trained.norms | {"learning_rate": rate} | pace.figures(self.step)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Measure without a trace: what is drawn here must not change what training draws."""
        self.module.eval()
        with torch.no_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            yield

    def _totals(self, counts: list[Counts]) -> Counts:
        totals = {name: sum(count[name] for count in counts) for name in counts[0]}
        found = distributed.sum_over_processes({**totals, WRITTEN: float(self.checkpoints.is_written)})
        if found.pop(WRITTEN) == distributed.world_size():
            self.checkpoints.commit()
        return {name: max(1.0, value) for name, value in found.items()}

    def _clip_and_check_finite(self, loss: float, norm: float) -> None:
        if not (torch.isfinite(torch.tensor(loss)) and torch.isfinite(torch.tensor(norm))):
            raise NotFiniteError(
                f"Step {self.step} of stage {self.stage} gave loss {loss} and gradient norm {norm}. "
                f"Lower optimizer.learning_rate or optimizer.max_grad_norm, and run again: it goes on from the "
                f"last checkpoint in {self.checkpoints.folder}."
            )
        limit = self.config.optimizer.max_grad_norm
        if limit is not None and norm > limit:
            scale_gradients(self._trained(), limit / norm)

    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def _evaluate(self, tracker: Tracker | None) -> None:
        if self.evaluation is None:
            return
        with self._measuring():
            figures = dict(self.module.with_weights(self.evaluation))
        # All processes must find the same checkpoint best, though each may have drawn other random numbers.
        figures = distributed.sum_over_processes(
            {name: value / distributed.world_size() for name, value in figures.items()}
        )
        if tracker is not None:
            tracker.log(self.step, {f"evaluation/{name}": value for name, value in figures.items()})
        score = next(iter(figures.values()))
        if self.best is None or score > self.best[1]:
            self.best, self.evaluations_since_best = (self.step, score), 0
            self._save()
        else:
            self.evaluations_since_best += 1

    def _go_back_to_best(self) -> None:
        """After an early stop, take the weights that evaluation liked best."""
        if self._is_stale() and self.best is not None:
            distributed.wait()  # for the one that gives a checkpoint its name
            self.checkpoints.load(self.best[0], self.module)

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _is_stale(self) -> bool:
        return self.config.patience is not None and self.evaluations_since_best >= self.config.patience

    # --- checkpoints ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self.saved_step == self.step:
            return
        shared = {
            "step": self.step,
            "best": self.best,
            "evaluations_since_best": self.evaluations_since_best,
            "optimizer": optimizer_state(self.module, self.optimizers),
            "stage": self.module.shared_state(),
        }
        own = {
            "random": torch.get_rng_state(),
            "random_on_gpu": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "generator": self.generator.get_state(),
            "batches": self.batches.state_dict(),
            "carried": self.module.carried_state(),
        }
        self.checkpoints.save(self.step, self.module, shared, own, None if self.best is None else self.best[0])
        self.saved_step = self.step

    def _resume(self) -> None:
        step = self.checkpoints.newest_whole()
        if step is None:
            return
        state = self.checkpoints.load(step, self.module)
        self.step = self.saved_step = state["step"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.evaluations_since_best = state["evaluations_since_best"]
        load_optimizer_state(self.module, self.optimizers, state["optimizer"])
        self.module.load_shared_state(state["stage"] if "stage" in state else state["carried"])
        if self.checkpoints.num_processes(self.step) == distributed.world_size():
            self._load_own(self.checkpoints.load_own(self.step, distributed.rank()))
        else:
            self._load_others()

    def _load_own(self, own: dict[str, Any]) -> None:
        """Go on exactly where this process was."""
        torch.set_rng_state(own["random"])
        if self.device.type == "cuda" and own.get("random_on_gpu") is not None:
            torch.cuda.set_rng_state(own["random_on_gpu"], self.device)
        self.generator.set_state(own["generator"])
        self.batches.load_state_dict(own["batches"])
        self.module.load_carried_state(own["carried"])

    def _load_others(self) -> None:
        """Go on from a checkpoint of another number of processes, with what does not belong to one of them."""
        count, now = self.checkpoints.num_processes(self.step), distributed.world_size()
        if distributed.rank() == 0:
            LOGGER.warning(
                "Stage %s goes on from step %d with %d process(es), and its checkpoint has the state of %d: weights, "
                "optimizer and the place in the data are kept; random numbers, and the conversations, memories and "
                "episodes that each process carried, begin anew. The result will not be bit-equal to that of %d.",
                *(self.stage, self.step, now, count, count),
            )
        seed = derived_seed(self.config.seed, distributed.rank(), self.step)
        torch.manual_seed(seed)
        self.generator.manual_seed(seed)
        self.batches.load_resharded([self.checkpoints.load_own(self.step, rank)["batches"] for rank in range(count)])

    def _precision(self) -> torch.dtype:
        """Return what products of matrices are computed in."""
        wanted = self.config.precision
        if wanted == "auto":  # measured: all processes must agree
            votes = distributed.sum_over_processes({"bfloat16": float(gains_by_bfloat16(self.module, self.device))})
            wanted = "bfloat16" if votes["bfloat16"] == distributed.world_size() else "float32"
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the model computes."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)
