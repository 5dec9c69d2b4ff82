"""Kill what saves, at random moments, and count what is lost: `make torture`, or `make torture KILLS=100`.

Each scenario runs in processes of its own, forks of this one, which has imported everything. After each kill what is on
the disk must be what one save wrote, all of it, and the next save or run must go on from it.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from torture_scenarios import FaultError, Scenario, scenarios

MIDWAY = (".saving-", ".saved", ".unfinished-")
"""What names of files tell that a save is on its way."""


def main() -> int:
    """Kill as often as asked, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500, help="in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", nargs="*", help="names of scenarios, instead of all")
    settings = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    chosen = [each for each in scenarios() if not settings.only or each.name in settings.only]
    whole = sum(each.share for each in chosen)
    faults = 0
    print(f"{'scenario':<24} {'kills':>6} {'midway':>7}  found afterwards", flush=True)
    for scenario in chosen:
        count = max(1, round(settings.kills * scenario.share / whole))
        with tempfile.TemporaryDirectory() as folder:
            found, hits = torture(scenario, Path(folder), count, random.Random(f"{settings.seed} {scenario.name}"))
        faults += sum(number for name, number in found.items() if name in FaultError.KINDS)
        outcomes = ", ".join(f"{name} {number}" for name, number in sorted(found.items()))
        print(f"{scenario.name:<24} {count:>6} {hits:>7}  {outcomes}", flush=True)
    print(f"{faults or 'no'} faults: unloadable, mixed, lost or stuck")
    return int(faults > 0)


def torture(scenario: Scenario, folder: Path, kills: int, draw: random.Random) -> tuple[Counter[str], int]:
    """Return what was found after each kill, and how many kills hit a save midway."""
    found: Counter[str] = Counter()
    done = hits = 0
    if scenario.ends:
        has_ended = start(scenario, folder / "it", draw, kills=False)
        scenario.check(folder / "it", has_ended)
        shutil.rmtree(folder / "it")
        scenario.renew()
    while done < kills:
        path = folder / "it"
        has_ended = start(scenario, path, draw)
        done, hits = done + (not has_ended), hits + bool(midway(path))
        try:
            scenario.check(path, has_ended)
            found["ended" if has_ended else "whole"] += 1
        except FaultError as fault:
            found[fault.kind] += 1
            print(f"  {scenario.name}: {fault}", file=sys.stderr, flush=True)
            shutil.move(path, folder / f"fault-{done}-{draw.random()}")
        if has_ended or draw.random() < scenario.renewed:
            shutil.rmtree(path, ignore_errors=True)
            scenario.renew()
    return found, hits


def start(scenario: Scenario, path: Path, draw: random.Random, *, kills: bool = True) -> bool:
    """Let the scenario work until it is killed, if it is; return whether it ended before."""
    errors, stale = path.with_name("errors"), midway(path)
    errors.write_text("")
    children = [fork(lambda rank=rank: scenario.work(path, rank), errors) for rank in range(scenario.processes)]
    aims, number = kills and draw.random() < scenario.aimed, draw.randint(1, 4)
    wait = 10 * scenario.seconds if aims else draw.uniform(0, scenario.seconds)
    moment = time.monotonic() + (wait if kills else 3600)
    while time.monotonic() < moment and len(running(children)) == len(children):
        time.sleep(0.001)
        if aims and midway(path) - stale:
            number -= 1
            if number == 0:
                time.sleep(draw.uniform(0, 0.02))
                break
            while midway(path) - stale and len(running(children)) == len(children):
                time.sleep(0.0005)
    ended = [child for child in children if child not in running(children)]
    for child in draw.sample(children, len(children)):
        if child not in ended:
            os.kill(child, signal.SIGKILL)
            time.sleep(draw.choice((0, 0.01)))
    codes = [os.waitpid(child, 0)[1] for child in children]
    if any(os.WIFEXITED(code) and os.WEXITSTATUS(code) for code in codes):
        scenario.failed = errors.read_text()[-2000:]
    return not any(os.WIFSIGNALED(code) for code in codes)


def fork(work: Callable[[], None], errors: Path) -> int:
    """Start a process that does some work, silently, and return its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            work()
            code = 0
        except BaseException:
            errors.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return child


def running(children: list[int]) -> list[int]:
    """Return those that have not ended; they stay to be waited for."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return [child for child in children if os.waitid(os.P_PID, child, flags) is None]


def midway(path: Path) -> set[str]:
    """Return the saves that are on their way in a folder, or were when they were killed."""
    found = (os.path.join(place, name) for place, folders, _ in os.walk(path) for name in folders)
    return {each for each in found if any(mark in os.path.basename(each) for mark in MIDWAY)}


if __name__ == "__main__":
    sys.exit(main())
