"""Rounds of a sampling estimator, until the standard errors are small enough or the budget is spent."""

from collections.abc import Iterator
from typing import Any

from pellucid.games import AbstractGame
from pellucid.games.estimate import Estimate
from pellucid.methods.base import Attribution
from pellucid.progress import progress
from pellucid.records import Check


def refined(
    label: str, game: AbstractGame, rounds: Iterator[Estimate], *, most: int, tolerance: float | None
) -> Attribution:
    """The first estimate whose largest standard error is at most ``tolerance``, or the last of the rounds.

    label: the method's name, for the progress bar.   most: the largest number of samples that the rounds may reach.
    A tolerance that was asked for is reported as a check, which fails where the budget ended first.
    """
    with progress(label, most) as advance:
        spent = 0
        for estimate in rounds:
            advance(estimate.samples - spent)
            spent = estimate.samples
            if tolerance is not None and estimate.largest_error <= tolerance:
                break
    settings: dict[str, Any] = {"samples_used": estimate.samples, "exact": estimate.exact}
    checks = () if tolerance is None else (_tolerance_check(estimate, tolerance),)
    return Attribution(
        estimate.values, game.empty, game.full, estimate.standard_error, checks=checks, settings=settings
    )


def _tolerance_check(estimate: Estimate, tolerance: float) -> Check:
    error = estimate.largest_error
    passed = error <= tolerance
    outcome = "within" if passed else "still above"
    return Check(
        name="tolerance",
        value=error,
        threshold=tolerance,
        passed=passed,
        decisive=False,
        detail=f"After {estimate.samples} samples the largest standard error is {error:.3g}, {outcome} the tolerance "
        f"of {tolerance:.3g}.",
    )
