"""Report 4: what is left when the memory is taken away."""

from typing import Any

from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.reports.recall import Findings, outcomes, plain


def controls(findings: Findings, all_controls: tuple[Control, ...]) -> dict[str, Any]:
    """Return recall under each control, what the model gains over it on the same questions, and the chance of a guess.

    The gain over "empty" is the memory gain, the benchmark's headline.
    """
    true = findings.told()
    others = [control for control in all_controls if control != "none"]
    return {
        "recall": {control: plain(findings.share(findings.told(control))) for control in all_controls},
        "gain": {
            control: plain(findings.bootstrap.difference(outcomes(true), outcomes(findings.told(control))))
            for control in others
        },
        "chance": findings.data.chance,
    }
