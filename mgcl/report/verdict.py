"""Which method won, in words: by mIoU, each method at the threshold that it would be used with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mgcl.report.records import ARGMAX, CALIBRATED, OWN

if TYPE_CHECKING:
    from mgcl.report.records import Row

_ORDER = (CALIBRATED, OWN, ARGMAX, "")  # which of a method's thresholds counts


def verdict(rows: Sequence["Row"]) -> list[str]:
    """A sentence for each number of shots: who is first, and by how much.

    A method counts with the first of its checkpoints and rules, at the calibrated threshold if it
    has one: nothing is chosen by the tested numbers.
    """
    sentences = []
    for shots in sorted({row.condition.shots for row in rows}):
        ranked = sorted(_contenders(rows, shots), key=lambda row: -row.scores.miou)
        if not ranked:
            continue
        sentences.append(f"{shots}-shot: {_sentence(*ranked[:2])}.")
    return sentences


def _sentence(first: "Row", second: "Row | None" = None) -> str:
    name, decision = first.condition.method.words, first.condition.decision
    reached = f"mIoU {first.scores.miou:.2f}"
    reached += "" if decision == "-" else f" at threshold {decision}"
    if second is None:
        return f"{name} reaches {reached}"
    ahead, other = first.scores.miou - second.scores.miou, second.condition.method.words
    if ahead < 0.005:
        return f"{name} and {other} are level with {reached}"
    return f"{name} wins with {reached}, {ahead:.2f} more than {other} ({second.scores.miou:.2f})"


def not_beaten(rows: Sequence["Row"]) -> list[str]:
    """A complaint for each untrained method that the trained one (the first) does not beat."""
    complaints = []
    for shots in sorted({row.condition.shots for row in rows}):
        contenders = _contenders(rows, shots)
        ours = next((row for row in contenders if row.condition.method.trained), None)
        for other in contenders:
            if ours and not other.condition.method.trained:
                name, theirs = other.condition.method.words, other.scores.miou
                if ours.scores.miou <= theirs:
                    complaints.append(
                        f"{shots}-shot: the trained {ours.condition.method.words} with mIoU "
                        f"{ours.scores.miou:.2f} does not beat {name} with {theirs:.2f}"
                    )
    return complaints


def _contenders(rows: Sequence["Row"], shots: int) -> list["Row"]:
    """The row of each method that counts, in the order of the report."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        if row.condition.shots == shots and row.scores.miou == row.scores.miou:
            by_name.setdefault(row.condition.method.name, []).append(row)
    chosen = []
    for group in by_name.values():
        first = group[0].condition
        same = [
            row
            for row in group
            if (row.condition.method, row.condition.rule) == (first.method, first.rule)
        ]
        chosen.append(min(same, key=lambda row: _ORDER.index(row.condition.threshold_kind)))
    return chosen
