"""How often a policy would win with summaries as long as its opponent's: a logistic regression read at equal length.

statsmodels fits it; scipy's linear programme says beforehand whether there is anything to fit. Left out: a slope of
length for each policy apart, and what its interval would be over training seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.special import expit
from scipy.stats import norm

from evaluation.statistics import LEVEL, Array, Interval, checked


def length_controlled(
    outcomes: Mapping[str, Sequence[float]], log_length_ratios: Mapping[str, Sequence[float]], *, level: float = LEVEL
) -> dict[str, Interval | None]:
    """The share of comparisons that each policy would win with summaries as long as its opponent's.

    One logistic regression of the outcome on policy and log length ratio, read at ratio 0 (Stiennon et al. 2020,
    arXiv 2009.01325). Intervals are from standard errors that hold for ties too (heteroscedasticity-robust, HC0). The
    policies share the slope of length.

    Args:
        outcomes: of each policy, one a comparison: 1 won, 0.5 tie, 0 lost.
        log_length_ratios: of each policy, ln(its length / the opponent's), in the same order.

    Returns: by policy; None where it cannot be said: a policy that always wins or always loses, or whose length alone
    tells the outcome, or that is always longer by the same factor.
    Raises: ValueError for lists of different lengths, outcomes outside [0, 1] or numbers that are not finite.
    """
    won = {name: checked(values) for name, values in outcomes.items()}
    longer = {name: checked(log_length_ratios[name]) for name in won}
    for name, values in won.items():
        if values.size != longer[name].size:
            raise ValueError(f"{name}: {values.size} outcomes for {longer[name].size} length ratios")
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"{name}: outcomes outside 0..1")
    mixed = [name for name, values in won.items() if 0 < values.mean() < 1]
    fitted = _fit_at_equal_length([won[name] for name in mixed], [longer[name] for name in mixed], level)
    return {name: dict(zip(mixed, fitted, strict=True)).get(name) for name in won}


def _fit_at_equal_length(won: Sequence[Array], longer: Sequence[Array], level: float) -> list[Interval | None]:
    if not won:
        return []
    outcome, ratio = np.concatenate(won), np.concatenate(longer)
    policy = np.repeat(np.arange(len(won)), [values.size for values in won])
    design = (policy[:, None] == np.arange(len(won))).astype(np.float64)
    if np.any(ratio):
        design = np.column_stack([design, ratio / np.abs(ratio).max()])
    unknown = np.linalg.matrix_rank(design) < design.shape[1] or len(outcome) <= design.shape[1]
    fit = None if unknown or _separated(design, outcome) else _logistic(design, outcome)
    if fit is None:
        return [None] * len(won)
    width = norm.ppf((1 + level) / 2) * fit.bse
    return [
        Interval(float(expit(at)), float(expit(at - by)), float(expit(at + by)), values.size)
        for at, by, values in zip(fit.params, width, won, strict=False)
    ]


def _logistic(design: Array, outcome: Array) -> Any | None:
    """The fit, with `params` and `bse`; None where it runs off, the data being all but separated."""
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # It also warns of a perfect fit that is none of separation, such as nothing but ties.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        try:
            fit = GLM(outcome, design, family=Binomial()).fit(cov_type="HC0")
        except np.linalg.LinAlgError:
            return None
    return fit if fit.converged and np.isfinite(fit.bse).all() else None


def _separated(design: Array, outcome: Array) -> bool:
    """Whether some line parts wins from losses, so that no finite coefficients are best (Albert and Anderson 1984).

    Found as Konis 2007 does: a linear programme for a direction that no win lies behind and no loss before. A tie is
    half a win and half a loss, so it must lie on the line.
    """
    wins, losses = design[outcome > 0], -design[outcome < 1]
    along = np.vstack([wins, losses])
    found = linprog(-along.sum(axis=0), A_ub=-along, b_ub=np.zeros(len(along)), bounds=(-1, 1))
    return bool(found.status != 0 or -found.fun > 1e-6 * len(along))
