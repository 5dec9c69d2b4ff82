"""Of two processes the second is lost in its third step, for the test of what becomes of the run.

    torchrun --nproc-per-node 2 lost_processes.py FOLDER killed | stopped | data | busy

busy is not lost: it computes for four seconds, without letting go of Python's lock.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

from rxlm.cli.errors import tell
from rxlm.training import distributed
from rxlm.training.distributed import Parallel
from rxlm.training.trainer import TrainedStep, Trainer
from training_runs import batches, trainer


def run(folder: Path, loss: str, parallel: Parallel) -> Trainer:
    share = {"rank": distributed.rank(), "world_size": distributed.world_size()}
    run = trainer(
        "memory_aware", folder, steps=4 if loss == "busy" else 1_000_000, checkpoint_every=None, log_every=1000,
        parallel=parallel,
    )  # fmt: skip
    run.batches = batches("memory_aware", 4, **share)
    train_step = run._train_step

    def step() -> TrainedStep:
        if run.step == 2 and distributed.rank() == 1:
            if loss == "data":
                raise ValueError("facts.jsonl, line 7: the answer is empty.")
            if loss == "busy":
                ctypes.PyDLL(None).usleep(4_000_000)
            else:
                os.kill(os.getpid(), signal.SIGKILL if loss == "killed" else signal.SIGSTOP)
        return train_step()

    run._train_step = step  # type: ignore[method-assign]
    return run


def train(folder: Path, loss: str, parallel: Parallel = "ddp") -> None:
    """Train until the second process is lost, or to the end."""
    distributed.start()
    (folder / f"pid-{distributed.rank()}").write_text(str(os.getpid()))
    try:
        run(folder, loss, parallel).run()
    except Exception as error:
        sys.exit(tell(error, "rxlm train"))


if __name__ == "__main__":
    train(Path(sys.argv[1]), sys.argv[2])
