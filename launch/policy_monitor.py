"""What a policy stage measures besides its reward, and which of it is watched for over-optimisation.

Every evaluation of the stage gets, for each prompt: ROUGE-L against the reference; the gold score where the task has
one; the score of a second reward model where there is one, relative to the reference as the reward is. The engine
watches one of the last two (`trlx.trainer.heldout`), since training never sees them. ROUGE is only logged: a summary
can be better than its reference and have little in common with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evaluation.policies import require_model
from launch.policy_reward import policy_reward
from launch.policy_stage import PolicyOptions
from reward_model.model import check_reward_model
from reward_model.provenance import shared_posts
from reward_model.reward import ReferenceReward
from reward_model.reward_options import RewardOptions, same_model
from tasks.records import Post
from tasks.registry import get_task
from tasks.run_folder import MAKERS, RunFolder
from tasks.task import Task
from trlx.data.configs import TrainConfig, TRLConfig
from trlx.trainer.heldout import require_unseen
from trlx.utils.digest import model_digest
from trlx.utils.distributed import is_main_rank
from trlx.utils.errors import UserError, nearest

METRICS = {"gold": "metrics/gold", "second_reward_model": "metrics/second_reward"}


@dataclass
class MonitoredOptions(PolicyOptions):
    """Options of a policy stage with a monitor.

    Two settings of the loop say the same as these. `train.on_overoptimization: stop` is
    `on_overoptimization: stop`. `train.heldout_metric` names another column of the evaluation to watch; with a
    `monitor` other than auto it must agree with that.

    Args:
        monitor: the held-out score that is watched while training; auto is gold where the task has it, else the second
            reward model where there is one, else none.
        second_reward_model: its folder or hub id; null for root/ckpts/second_reward_model where that is there and not
            trained against.
        on_overoptimization: what to do when the reward and the held-out score part: warn, or stop and go back to the
            best held-out checkpoint.
    """

    monitor: Literal["auto", "gold", "second_reward_model", "none"] = "auto"
    second_reward_model: str | None = None
    on_overoptimization: Literal["warn", "stop"] = "warn"

    @property
    def stops(self) -> bool:
        """Whether training is to stop, by this option or by the loop's."""
        return "stop" in (self.on_overoptimization, self.train.on_overoptimization)

    def engine_config(self) -> TRLConfig:
        """The sections that the engine reads; whether it stops is left to `choose_monitor`, which knows at what."""
        config = super().engine_config()
        config.train = replace(config.train, on_overoptimization="warn")
        return config


class PolicyMetrics:
    """The `metric_fn` of a policy stage; called on the main rank only.

    Args:
        tokenizer: the policy's, for its end-of-sequence text.
        gold: sample id → gold score of (summary, ended), or None where there is none.
        second: the second reward model, or None.
        sources: what tells the judge behind a metric (`metrics/<name>`) from another.
    """

    def __init__(
        self,
        tokenizer: Any,
        gold: GoldScores | None,
        second: ReferenceReward | None,
        sources: Mapping[str, str] | None = None,
    ):
        self.tokenizer, self.gold, self.second, self.sources = tokenizer, gold, second, dict(sources or {})

    @property
    def names(self) -> list[str]:
        """The metrics it gives, as the engine calls them."""
        there = {METRICS["gold"]: self.gold, METRICS["second_reward_model"]: self.second}
        return [*(name for name, score in there.items() if score is not None), "metrics/rougeL"]

    def source_of(self, metric: str) -> str:
        """What tells the judge behind a metric from another; a resumed run compares it."""
        return self.sources.get(metric, metric)

    def __call__(
        self,
        prompts: Sequence[str],
        outputs: Sequence[str],
        sample_id: Sequence[str],
        reference: Sequence[str],
        **_: Any,
    ) -> dict[str, list[float]]:
        """One number a sample of each measure.

        Args:
            prompts, outputs: texts; outputs that ended carry the end-of-sequence text.
            sample_id: of the posts. reference: their clean summaries.
        """
        from evaluation.rouge_scores import rouge_f1

        eos = str(self.tokenizer.eos_token)
        summaries = [output.removesuffix(eos).strip() for output in outputs]
        measured: dict[str, list[float]] = {}
        if self.gold is not None:
            ended = [output.endswith(eos) for output in outputs]
            measured["gold"] = [self.gold(*row) for row in zip(sample_id, summaries, ended, strict=True)]
        if self.second is not None:
            measured["second_reward"] = self.second(prompts, outputs, self.tokenizer, sample_id, reference)
        if all(reference):  # prompts alone have none
            measured["rougeL"] = rouge_f1(summaries, list(reference))["rougeL"]
        return measured


class GoldScores:
    """The task's gold score of a post's summary."""

    def __init__(self, task: Task, posts: Sequence[Post]):
        self._score = task.gold_score
        self._facts = {post.id: post.extra["facts"] for post in posts}

    def __call__(self, sample_id: str, summary: str, ended: bool) -> float:
        assert self._score is not None
        return self._score(self._facts[sample_id], summary, ended)


def policy_metrics(
    stage: str,
    options: MonitoredOptions,
    reward_folders: Sequence[str],
    posts: Sequence[Post],
    tokenizer: Any,
    max_length: int,
) -> PolicyMetrics:
    """The `metric_fn` that the options and the data allow; says how independent its second reward model is.

    Args:
        stage: its name, to begin lines on the console with.
        reward_folders: the reward models that are trained against. posts: to evaluate on. tokenizer: the policy's.
        max_length: prompt + response + EOS in tokens.

    Raises: UserError for a second reward model that is missing, or that is one of those trained against.
    """
    task = get_task(options.task)
    known = task.gold_score is not None and all("facts" in post.extra for post in posts)
    folder, notes = second_reward_folder(options, reward_folders)
    for note in notes if is_main_rank() else []:
        print(f"[{stage}] {note}", flush=True)
    same = RewardOptions(
        reward_label=options.reward_label,
        reward_relative=options.reward_relative,
        reward_batch_size=options.reward_batch_size,
        reward_dtype=options.reward_dtype,
        reward_device=options.reward_device,
    )
    second = policy_reward(same, task.form, [folder], max_length) if folder is not None else None
    sources = {METRICS["gold"]: f"gold of {options.task}"}
    if folder is not None:
        told = model_digest(folder) if Path(folder).is_dir() else folder
        how = f"relative: {options.reward_relative}, label: {options.reward_label}"
        sources[METRICS["second_reward_model"]] = f"{told}, {how}"
    return PolicyMetrics(tokenizer, GoldScores(task, posts) if known else None, second, sources)


def second_reward_folder(options: MonitoredOptions, reward_folders: Sequence[str]) -> tuple[str | None, list[str]]:
    """The second reward model: the one named, else the run's own where it is there and something shall be watched.

    Returns: (folder, lines to say aloud). The run's own is left out, with a line, where it is trained against.
    Raises: UserError when it is asked for and not there, no reward model, or trained against.
    """
    own = RunFolder.of(options.root).second_reward_model
    named = options.second_reward_model
    wanted = options.monitor == "second_reward_model" or (options.monitor != "none" and (own / "config.json").is_file())
    if named is None and not wanted:
        return None, []
    folder = str(own) if named is None else named
    made = f"`{MAKERS['ckpts', 'second_reward_model']}` with the same --root and pairs of its own makes it"
    require_model("second reward", folder, f"{made}, or --second_reward_model names it")
    if any(same_model(folder, trained) for trained in reward_folders):
        if named is None and options.monitor != "second_reward_model":
            return None, [f"{folder} is trained against, so it does not judge: --second_reward_model names another"]
        told = "--monitor second_reward_model:" if named is None else "--second_reward_model"
        raise UserError(f"{told} {folder} is trained against: it must be another than --reward_model")
    check_reward_model(folder, options.reward_label)
    return folder, [line for trained in reward_folders if (line := _kinship(folder, trained))]


def _kinship(second: str, trained: str) -> str | None:
    """What to say of the posts that both reward models were trained on, or None where they share none."""
    shared = shared_posts(second, trained)
    if shared is None:
        return f"warning: it is not known whether {second} and {trained} were trained on the same posts"
    if shared:
        return f"warning: {second} was trained on {shared} of the posts of {trained}: as a judge it proves less"
    return None


def choose_monitor(options: MonitoredOptions, metrics: PolicyMetrics, train: TrainConfig) -> str:
    """Set what the engine watches and what it does then; returns the line to say aloud.

    Args:
        metrics: from `policy_metrics`. train: of the engine's configuration; a `heldout_metric` given there by hand
            stays.

    Raises: UserError for a score that there is not, two that contradict each other, or stopping at nothing.
    """
    there = {"gold": metrics.gold is not None, "second_reward_model": metrics.second is not None}
    chosen: str = options.monitor
    if chosen == "auto":
        chosen = next((name for name in METRICS if there[name]), "none")
    if chosen == "gold" and not there["gold"]:
        raise UserError(f"--monitor gold: task {options.task} has no gold score of these posts: choose another")
    if train.heldout_metric is None:
        train.heldout_metric = METRICS.get(chosen)
    else:
        _check_by_hand(options.monitor, train.heldout_metric, metrics)
    if options.stops:
        train.on_overoptimization = "stop"
    if train.heldout_metric is not None:
        then = "stops and goes back" if train.on_overoptimization == "stop" else "warns"
        return f"watching {train.heldout_metric}, which training never sees: {then} when the reward parts from it"
    if train.on_overoptimization == "stop":
        raise UserError("--on_overoptimization stop needs a score to watch: give --second_reward_model FOLDER")
    why = "as asked" if options.monitor == "none" else "there is no gold score and no second reward model"
    return f"no held-out score is watched ({why})"


def _check_by_hand(monitor: str, metric: str, metrics: PolicyMetrics) -> None:
    """Raises: UserError for a `train.heldout_metric` that another option contradicts or nothing measures."""
    require_unseen(metric)
    if monitor != "auto" and METRICS.get(monitor) != metric:
        raise UserError(f"--monitor {monitor} and --train.heldout_metric {metric} contradict each other: give one")
    if metric not in metrics.names:
        raise UserError(f"--train.heldout_metric {metric} is not measured here{nearest(metric, metrics.names)}")
