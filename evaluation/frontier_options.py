"""The options of the frontier, and what their numbers may be."""

from __future__ import annotations

from dataclasses import dataclass, field

from evaluation.devices import DtypeName
from evaluation.statistics import RESAMPLES
from tasks.reading.rows import OnBadRows
from tasks.run_folder import DEFAULT_ROOT
from trlx.utils.ranges import AT_LEAST_0, AT_LEAST_1, Range

AT_LEAST_2 = Range("at least 2", 2)
RANGES = {
    **dict.fromkeys(("limit", "batch_size", "reward_batch_size", "max_length", "max_new_tokens"), AT_LEAST_1),
    **dict.fromkeys(("policy_samples", "checkpoints", "resamples"), AT_LEAST_1),
    "samples": AT_LEAST_2,
    "seed": AT_LEAST_0,
}


@dataclass
class FrontierOptions:
    """Options of the frontier.

    Args:
        root: the run's root folder; models are looked for and frontier.json written under it, `{root}` in a path
            means it.
        overwrite: sample everything anew, also what an earlier run has finished.
        sft: the model that all others are compared with; null for root/ckpts/sft.
        models: further models to place, as name=path, separated by commas.
        checkpoints: how many of PPO's checkpoints at most, evenly spaced; null for all.
        reward_model: the proxy, by which best-of-n chooses; null for root/ckpts/reward_model.
        second_reward_model: one that nothing was trained against; null for root/ckpts/second_reward_model where it is
            there, none for none.
        reward_label: of a text classifier, the label whose log-odds are the reward; null for what its config.json says.
        task: how rows of data are read and whether there is a gold score; see `tasks/`.
        data: hub id, local folder (or folder/prefix), or JSONL, JSON, CSV or Parquet files (also .gz).
        columns: where the data call a column otherwise: our name → theirs, e.g. `--columns.summary tldr`.
        bad_rows: stop at the first row that cannot be used, or skip such rows and count them.
        split: the split to sample on.
        limit: the first so many posts; null for all.
        samples: responses a post of the SFT model; best-of-n is known for every n up to that.
        policy_samples: responses a post of every other policy.
        batch_size: responses continued at once.
        reward_batch_size: texts scored at once.
        max_length: longest prompt + summary in tokens; posts are cut to leave room for the summary.
        max_new_tokens: longest summary that is written.
        dtype: of the policies: auto (bfloat16 on a GPU, float32 on a CPU), float32, bfloat16 or float16.
        reward_dtype: of the reward models, likewise.
        policy_device: null for GPU 1, else GPU 0, else the CPU.
        reward_device: null for GPU 0, else the CPU.
        resamples: bootstrap resamples behind each 95% interval.
        seed: of the sampling.
    """

    root: str = DEFAULT_ROOT
    overwrite: bool = False
    sft: str | None = None
    models: str = ""
    checkpoints: int | None = 8
    reward_model: str | None = None
    second_reward_model: str | None = None
    reward_label: str | None = None
    task: str = "tldr"
    data: str = "CarperAI/openai_summarize_tldr"
    columns: dict[str, str] = field(default_factory=dict)
    bad_rows: OnBadRows = "stop"
    split: str = "test"
    limit: int | None = 500
    samples: int = 64
    policy_samples: int = 4
    batch_size: int = 64
    reward_batch_size: int = 64
    max_length: int = 550
    max_new_tokens: int = 50
    dtype: DtypeName = "auto"
    reward_dtype: DtypeName = "float32"
    policy_device: str | None = None
    reward_device: str | None = None
    resamples: int = RESAMPLES
    seed: int = 42

    @property
    def decoding_text(self) -> str:
        """For captions."""
        return f"sampled at temperature 1, no top-k or top-p, at most {self.max_new_tokens} new tokens"
