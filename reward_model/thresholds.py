"""What a reward model must reach to pass the gate: settings of a YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field

from trlx.utils.errors import BadKey, nearest
from trlx.utils.ranges import AT_LEAST_1, FINITE, NOT_NEGATIVE, SHARE, require_ranges


@dataclass
class StressThresholds:
    """Least shares of posts on which the untouched reference must score higher than its edit; null: told, not judged.

    Args:
        title_twice: the post's title, twice.
        shuffled_sentences: the sentences in another order.
        role_swap: I and he, my and his, mother and father exchanged.
        first_three_sentences: those of the post.
        truncated: the first half of the words.
        other_post: the reference of another post.
    """

    title_twice: float | None = None
    shuffled_sentences: float | None = None
    role_swap: float | None = None
    first_three_sentences: float | None = None
    truncated: float | None = None
    other_post: float | None = None


@dataclass
class Thresholds:
    """What the gate asks for; null: told, not judged. Fewer pairs or posts than the least ones are not judged either.

    Args:
        min_pairs: least test pairs (of the kind that a check is about).
        min_posts: least posts that such pairs are of, and least posts that a stress edit changed.
        required: names of checks that fail where they cannot be judged, e.g. [ece, stress.other_post].
        accuracy: least share of pairs on which the preferred side scores higher.
        accuracy_shorter_better: the same on pairs whose preferred side has fewer words.
        beats_longer_wins: the low end of (accuracy - that of "the longer one wins") must be above it.
        beats_length_only: the low end of (accuracy - that of a regression on lengths) must be above it.
        ece: most expected calibration error.
        padding: most that a score may change beside a longer text.
        batch_size: most that a score may change with the size of the batch.
        trained_on: largest share of the test posts that the model was trained on.
        stress: of the edited references.
    """

    min_pairs: int = 100
    min_posts: int = 30
    required: list[str] = field(default_factory=list)
    accuracy: float | None = None
    accuracy_shorter_better: float | None = None
    beats_longer_wins: float | None = None
    beats_length_only: float | None = None
    ece: float | None = None
    padding: float | None = None
    batch_size: float | None = None
    trained_on: float | None = None
    stress: StressThresholds = field(default_factory=StressThresholds)


_SHARES = ("accuracy", "accuracy_shorter_better", "ece", "trained_on")
_RANGES = {
    **dict.fromkeys(("min_pairs", "min_posts"), AT_LEAST_1),
    **dict.fromkeys(_SHARES, SHARE),
    **dict.fromkeys(("beats_longer_wins", "beats_length_only"), FINITE),
    **dict.fromkeys(("padding", "batch_size"), NOT_NEGATIVE),
}


_NO_CHECKS = ("min_pairs", "min_posts", "required", "stress")


def require_thresholds(thresholds: Thresholds, prefix: str = "--") -> None:
    """Refuse numbers that cannot be meant, and required checks that there are not. Raises: BadKey naming the key."""
    require_ranges(thresholds, _RANGES, f"{prefix}thresholds.")
    shares = dict.fromkeys(vars(thresholds.stress), SHARE)
    require_ranges(thresholds.stress, shares, f"{prefix}thresholds.stress.")
    _require_judgeable(thresholds, f"{prefix}thresholds.required")


def _require_judgeable(thresholds: Thresholds, key: str) -> None:
    """Refuse a required check that there is not, or that has no threshold."""
    limits = {name: value for name, value in vars(thresholds).items() if name not in _NO_CHECKS}
    limits |= {f"stress.{name}": value for name, value in vars(thresholds.stress).items()}
    for name in thresholds.required:
        if name not in limits:
            raise BadKey(key.removeprefix("--"), f"{key}: no check is called {name!r}{nearest(name, limits)}")
        if limits[name] is None:
            message = f"{key}: {name!r} has no threshold to be judged by: set one, or take the name out"
            raise BadKey(key.removeprefix("--"), message)
