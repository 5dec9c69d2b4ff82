"""Report 2: recall against the number of facts that the conversation holds."""

from typing import Any

from rxlm.mrq_bench.ranges import DISTANCE_RANGES, FACT_RANGES, in_ranges, label
from rxlm.mrq_bench.reports.recall import Findings, distance_of, facts_of, plain


def capacity(findings: Findings) -> dict[str, Any] | None:
    """Return recall by the number of facts held, in all and for each range of distances.

    More facts are held late in a dialogue, where distances are long, too: a memory that is too small shows within one
    range of distances. None where the data do not say how many facts are held.
    """
    answers = findings.told()
    everything = _by_facts(findings, answers)
    if not everything:
        return None
    ranges = in_ranges(answers, DISTANCE_RANGES, distance_of)
    return {
        "all distances": everything,
        "by_distance": {label(bounds): _by_facts(findings, inside) for bounds, inside in ranges.items()},
    }


def _by_facts(findings: Findings, answers: list[Any]) -> dict[str, Any]:
    return {
        label(bounds): plain(findings.share(inside))
        for bounds, inside in in_ranges(answers, FACT_RANGES, facts_of).items()
    }
