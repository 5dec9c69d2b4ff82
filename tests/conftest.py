"""What all tests share: how hypothesis searches, how many threads PyTorch takes, and that Ctrl-C interrupts."""

import os
import signal

import pytest
import torch
from hypothesis import HealthCheck, settings

import shape_checks

shape_checks.install()

# The same examples in every run, few enough for two cores; HYPOTHESIS_PROFILE=explore looks for new ones.
quick = settings(
    deadline=None, derandomize=True, max_examples=12, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.register_profile("quick", quick)
settings.register_profile("explore", quick, derandomize=False, max_examples=120)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Shells start jobs in the background with Ctrl-C ignored, and programs that tests start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # tiny tensors, and pytest-xdist has a process a core


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers, whichever ran before it."""
    torch.manual_seed(0)
