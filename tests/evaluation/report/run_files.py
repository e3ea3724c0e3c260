"""Files of a run, made by hand: small, and as their writers write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.run_folder import RunFolder
from tests.evaluation.sample_rows import row, write_models
from trlx.utils.digest import model_digest
from trlx.utils.metrics import MetricsWriter


def interval(mean: float, half: float | None = 0.1, n: int = 8) -> dict[str, Any]:
    """An `Interval` as JSON, `half` to either side; None for no interval."""
    return {
        "mean": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "n": n,
    }


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def results(**models: str) -> dict[str, Any]:
    """The parts of results.json that the report reads; models: name → kind."""
    return {
        "format": 2,
        "posts": 3,
        "baseline": "sft",
        "models": {name: {"kind": kind, "path": f"ckpts/{name}"} for name, kind in models.items()},
        "tables": [
            {
                "title": "ROUGE scores",
                "header": ["Model", "Average"],
                "rows": [["SFT", "0.320 [0.311, 0.329]"]],
                "caption": "F1; greedy.",
                "above": "",
            }
        ],
        "run": {
            "task": "miniature",
            "data": "data",
            "split": "test",
            "decoding_text": "greedy, at most 48 new tokens",
            "seed": 42,
            "versions": {"torch": "2.13"},
        },
        "reward_model": {"path": "ckpts/reward_model", "held_out": {"test": {"accuracy": 0.875}}},
        "second_reward_model": None,
    }


def gate(folder: Path) -> dict[str, Any]:
    """A gate.json of the model in a folder: 40 pairs, of which 30 are judged right."""
    return {
        "format": 1,
        "verdict": "FAIL",
        "model_digest": model_digest(folder),
        "checks": [check("accuracy", 0.75, 0.6, "pass"), check("ece", 0.2, 0.1, "fail")],
        "accuracy": {
            "accuracy": interval(0.75),
            "by_length_difference": [
                {"from": -9, "to": -1, "pairs": 20, "accuracy": interval(0.6)},
                {"from": 0, "to": 12, "pairs": 20, "accuracy": interval(0.9)},
            ],
            "by": {"batch": {"b7": {"pairs": 40, "accuracy": {"mean": 0.75, "low": 0.6, "high": 0.86, "n": 40}}}},
        },
        "calibration": {
            "ece": 0.2,
            "bins": [
                {"low": 0.5, "high": 0.75, "confidence": 0.6, "accuracy": 0.5, "pairs": 10},
                {"low": 0.75, "high": 1.0, "confidence": 0.9, "accuracy": 25 / 30, "pairs": 30},
            ],
        },
        "baselines": {"longer_wins": interval(0.55), "length_only": interval(0.6)},
        "stress": [],
    }


def check(name: str, value: float, threshold: float, status: str) -> dict[str, Any]:
    spread = {"low": value - 0.1, "high": value + 0.1, "n": 40}
    rule = "<=" if name == "ece" else ">="
    about = {"about": f"about {name}", "threshold": threshold, "rule": rule, "status": status, "why": ""}
    return {"name": name, "value": value, **spread, **about}


def point(name: str, kind: str, kl: float, reward: float, **more: Any) -> dict[str, Any]:
    plain = {
        "name": name,
        "kind": kind,
        "n": None,
        "step": None,
        "kl": interval(kl, 0.0),
        "kl_kind": "estimated",
        "reward": interval(reward),
        "second_reward": None,
        "gold": interval(reward / 10, 0.01),
        "response_tokens": interval(20 + reward, 1.0),
    }
    rouge = {name: interval(0.5, 0.02) for name in ("rouge1", "rouge2", "rougeL", "rouge_average")}
    return plain | rouge | more


def frontier() -> dict[str, Any]:
    """SFT, best of 2, 3 and 4, two checkpoints of PPO, and PPO; a curve for RL."""
    return {
        "format": 1,
        "decoding_text": "sampled at temperature 1, no top-k or top-p, at most 48 new tokens",
        "split": "test",
        "posts": 8,
        "baseline": "sft",
        "points": [
            point("sft", "sft", 0.0, 1.0, n=1),
            point("best of 2", "best_of_n", 0.19, 1.5, n=2),
            point("best of 3", "best_of_n", 0.43, 1.7, n=3),
            point("best of 4", "best_of_n", 0.64, 1.8, n=4),
            point("checkpoint_20", "ppo_checkpoint", 1.0, 3.0, step=20),
            point("checkpoint_10", "ppo_checkpoint", 0.25, 2.0, step=10),
            point("ppo", "ppo", 4.0, 4.0, step=30),
        ],
        "fits": [
            {
                "kind": "rl",
                "measure": "reward",
                "alpha": interval(2.0),
                "beta": interval(0.5),
                "formula": "R(d) = d(α − β·log d)",
                "points": 3,
                "peak": None,
            }
        ],
        "fits_refused": [{"kind": "best_of_n", "measure": "reward", "why": "too few points"}],
        "run": {},
    }


def monitor() -> dict[str, Any]:
    """Reward rises all the way, the held-out score until step 20."""
    heldout = (0.5, 0.6, 0.7, 0.4)
    history = [
        {"step": 10 * place, "reward": interval(float(place)), "heldout": interval(score)}
        for place, score in enumerate(heldout)
    ]
    return {
        "format": 1,
        "metric": "metrics/gold",
        "flagged_at": 30,
        "best_by_reward": {"step": 30, "reward": 3.0, "heldout": 0.4},
        "best_by_heldout": {"step": 20, "reward": 2.0, "heldout": 0.7},
        "history": history,
        "rolled_back": True,
    }


def write_curves(run: RunFolder) -> None:
    """metrics.jsonl of SFT, the reward model and PPO."""
    sft, reward, ppo = (MetricsWriter(folder) for folder in (run.sft, run.reward_model, run.ppo_logs))
    for step in (10, 20, 30):
        sft.write({"loss": 3 - step / 20, "learning_rate": 1e-3}, step)
        reward.write({"loss": 0.7 - step / 100}, step)
        ppo.write({"policy/kl": step / 10, "policy/clipfrac": 0.1, "losses/policy_loss": -0.01}, step)
    sft.write({"eval_loss": 1.6, "eval_rouge1": 0.3, "eval_rouge2": 0.1, "eval_rougeL": 0.25}, 30)
    reward.write({"eval_accuracy": 0.75, "eval_loss": 0.5}, 30)
    ppo.write({"reward/mean": 1.0, "heldout/mean": 0.5}, 0)
    ppo.write({"reward/mean": 2.0, "heldout/mean": 0.4}, 30)


def whole_run(root: Path) -> RunFolder:
    """A root with everything that the report can show."""
    run = RunFolder.of(root)
    write_curves(run)
    write(run.results, results(sft="model", ppo="model", title="baseline"))
    sft = [row(place, reward=place / 10, gold_pred=0.5, gold_truth=0.6) for place in range(3)]
    ppo = [row(place, reward=1 + place / 10, gold_pred=0.4, gold_truth=0.6, pred="longer by far") for place in range(3)]
    write_models(root, sft=sft, ppo=ppo, title=sft)
    write(run.reward_model / "config.json", {})
    write(run.reward_model / "gate.json", gate(run.reward_model))
    write(run.frontier, frontier())
    write(run.monitor, monitor())
    return run
