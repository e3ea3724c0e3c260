"""Where a run keeps what its stages write: the one place that knows the names below a root.

Strings of a stage's options may hold two place names: `{root}` stands for the run's root folder (option `root`, by
default the repository) and `{repo}` for the repository itself, so that one YAML file serves every root and every
current folder. A relative path without either is relative to the current folder.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

REPO = Path(__file__).resolve().parents[1]
DEFAULT_ROOT = str(REPO)
RUN_FILE = "run.json"  # what a stage notes of itself, in its own folder

# The end of a folder's path → the command that writes such a folder below a root; the stages fill `{root}` in.
MAKERS: dict[tuple[str, ...], str] = {
    ("ckpts", "sft"): "deepspeed sft/train_gptneo_summarize.py",
    ("ckpts", "reward_model"): "deepspeed reward_model/train_reward_model_gptneo.py",
    ("ckpts", "second_reward_model"): (
        "deepspeed reward_model/train_reward_model_gptneo.py --out {root}/ckpts/second_reward_model"
    ),
    ("ckpts", "best_checkpoint", "hf_model"): "accelerate launch trlx_gptneo_text_summarization.py",
    ("ckpts", "rft", "best_checkpoint", "hf_model"): "accelerate launch trlx_gptneo_rft_summarization.py",
    ("base",): "python -m tasks.scratch_model",
}

T = TypeVar("T")


@dataclass(frozen=True)
class RunFolder:
    """The paths below one root."""

    root: Path

    @classmethod
    def of(cls, root: str | Path) -> RunFolder:
        """With the root made absolute."""
        return cls(Path(root).resolve())

    @property
    def base(self) -> Path:
        """The model of random weights that the miniature begins from."""
        return self.root / "base"

    @property
    def sft(self) -> Path:
        """The SFT model, and its metrics.jsonl."""
        return self.root / "ckpts" / "sft"

    @property
    def reward_model(self) -> Path:
        """The reward model that PPO trains against, its metrics.jsonl, results.json and gate.json."""
        return self.root / "ckpts" / "reward_model"

    @property
    def second_reward_model(self) -> Path:
        """A reward model trained on other pairs, which judges and is never trained against."""
        return self.root / "ckpts" / "second_reward_model"

    @property
    def biased_reward_model(self) -> Path:
        """A reward model that favours length, for the study of over-optimisation."""
        return self.root / "ckpts" / "biased_reward_model"

    @property
    def ckpts(self) -> Path:
        """PPO's checkpoint_dir: its checkpoint_N, and the two best ones below."""
        return self.root / "ckpts"

    @property
    def best_policy(self) -> Path:
        """PPO's best policy by the reward it trains on."""
        return self.ckpts / "best_checkpoint" / "hf_model"

    @property
    def best_heldout_policy(self) -> Path:
        """PPO's best policy by a score it does not train on."""
        return self.ckpts / "best_heldout_checkpoint" / "hf_model"

    @property
    def rft_policy(self) -> Path:
        """The best policy of reward-ranked fine-tuning."""
        return self.ckpts / "rft" / "best_checkpoint" / "hf_model"

    @property
    def ppo_logs(self) -> Path:
        """PPO's metrics.jsonl and tables of samples."""
        return self.root / "ckpts" / "ppo"

    @property
    def rft_logs(self) -> Path:
        """The metrics.jsonl of reward-ranked fine-tuning."""
        return self.ckpts / "rft" / "logs"

    @property
    def monitor(self) -> Path:
        """What PPO saw of its reward and of a score it does not train on."""
        return self.ppo_logs / "monitor.json"

    @property
    def metadata(self) -> Path:
        """Tables and CSVs for people."""
        return self.root / "metadata"

    @property
    def pair_scores(self) -> Path:
        """A reward model's scores of good and bad answers."""
        return self.metadata / "pair_scores.csv"

    @property
    def prompt_table(self) -> Path:
        """What several models answer to the same prompts."""
        return self.metadata / "prompts.csv"

    @property
    def results(self) -> Path:
        """All numbers of the evaluation."""
        return self.root / "results.json"

    @property
    def frontier(self) -> Path:
        """KL against reward of several policies."""
        return self.root / "frontier.json"

    @property
    def frontier_work(self) -> Path:
        """What a frontier has sampled and scored already."""
        return self.root / ".cache" / "frontier"

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.root / "report.html"

    @property
    def record(self) -> Path:
        """What `train.sh` did here: command, versions, commit, seeds, and how far each stage came."""
        return self.root / "run.json"

    @property
    def configs(self) -> Path:
        """Copies of the YAML files that a run of `train.sh` uses."""
        return self.root / "configs"

    @property
    def hostfile(self) -> Path:
        """A copy of the list of machines that a run of `train.sh` uses."""
        return self.root / "hostfile"

    def log(self, stage: str) -> Path:
        """Everything that one stage of `train.sh` printed."""
        return self.root / "logs" / f"{stage}.log"

    def study(self, name: str) -> Path:
        """The folder of one of `python -m launch.study`'s experiments."""
        return self.root / "study" / name

    def samples(self, model: str) -> Path:
        """The CSV of one model's summaries with their scores."""
        return self.metadata / f"{model}_with_reward_scores_sample.csv"

    def judged(self) -> list[str]:
        """Names of the models and baselines that have a CSV of samples, in alphabetical order."""
        before, after = self.samples("*").name.split("*")
        names = (path.name for path in self.metadata.glob(f"{before}*{after}"))
        return sorted(name.removeprefix(before).removesuffix(after) for name in names)

    def shown(self, path: str | Path) -> str:
        """A path under the root without the root, so that results can be moved and compared; any other as it is."""
        full = Path(path).resolve()
        return full.relative_to(self.root).as_posix() if full.exists() and full.is_relative_to(self.root) else str(path)


def maker_of(path: str | Path) -> str | None:
    """The command that writes such a folder, where its last parts tell."""
    parts = Path(path).parts
    return next((command for end, command in MAKERS.items() if parts[-len(end) :] == end), None)


def fill_places(options: T, root: str | Path) -> T:
    """A copy of a dataclass with `{root}` and `{repo}` replaced in every string, at any depth.

    Args:
        options: a dataclass; nested dataclasses, lists and dicts are walked.
        root: the run's root folder; made absolute.
    """
    return _filled(options, {"{root}": str(Path(root).resolve()), "{repo}": str(REPO)})


def _filled(value: Any, places: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, path in places.items():
            value = value.replace(name, path)
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _filled(getattr(value, f.name), places) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    if isinstance(value, list):
        return [_filled(item, places) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, places) for key, item in value.items()}
    return value


def default_under(root: str | Path, given: str | None, *parts: str) -> Path:
    """`given` (relative to the current folder) or, when it is None, `root/parts...`; always absolute."""
    return (Path(given) if given is not None else Path(root).joinpath(*parts)).resolve()


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a stage noted of itself in its folder; None where there is no record that can be read."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
