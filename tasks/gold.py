"""stub"""

from __future__ import annotations


def gold_score(facts, text, ended=True):
    return 0.0
