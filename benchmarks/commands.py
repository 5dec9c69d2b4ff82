"""What commands of `rxlm` cost before they are of use: `--help`, `chat` up to its prompt, and a whole `quickstart`.

    python benchmarks/commands.py runs/quickstart --quickstart

prints the processor time of each, all processes and threads added up, so that other work on the machine does not count
as it would by the clock, and how many times that of importing PyTorch it is.
"""

import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import tyro

from records import RESULTS, Record

IMPORT = (sys.executable, "-c", "import torch")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        model: folder of a model to chat with.
        quickstart: measure a whole `rxlm quickstart`, too.
        repeats: of each command but quickstart, in turns.
        output: folder for the figures.
    """

    model: Annotated[Path, tyro.conf.Positional]
    quickstart: bool = False
    repeats: int = 5
    output: Path = RESULTS


def processor_seconds(command: tuple[str, ...]) -> float:
    """Run a command without input, and return its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(settings: Settings) -> None:
    """Measure and print."""
    rxlm = (sys.executable, "-m", "rxlm")
    commands = {"--help": (*rxlm, "--help"), "chat": (*rxlm, "chat", str(settings.model))}
    record = Record(settings.output / "commands.json", settings)
    rounds = [
        {name: processor_seconds(command) for name, command in {"import": IMPORT, **commands}.items()}
        for _ in range(settings.repeats)
    ]
    imports = median(each["import"] for each in rounds)
    samples = {name: [each[name] for each in rounds] for name in commands}
    if settings.quickstart:
        with tempfile.TemporaryDirectory() as folder:
            samples["quickstart"] = [processor_seconds((*rxlm, "quickstart", "--output", folder))]
    for name, seconds in samples.items():
        times = [each / imports for each in seconds]
        print(f"rxlm {name}: {median(seconds):.2f} s of processor time, {median(times):.2f} times `import torch`")
        record.add(name, seconds, "s of processor time", better="less")
        record.add(f"{name} beside `import torch`", times, "times", better="less", kind="ratio")
    record.save()


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
