"""Mistakes on the command line and in YAML files."""

from __future__ import annotations

import json
from pathlib import Path

from case import Case, Spoil
from harness import JUDGE, PPO, REWARD, SFT

from trlx.utils.manifest import write_manifest


def config(text: str | bytes) -> Spoil:
    """`--config` is a file with that content."""

    def spoil(root: Path, work: Path) -> list[str]:
        path = work / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["--config", str(path)]

    return spoil


def conf(**changed: str) -> Spoil:
    """The `.conf` file has these keys of `Training` besides, as they are written here."""

    def spoil(root: Path, work: Path) -> list[str]:
        more = "".join(f'    "{name}": {text},\n' for name, text in changed.items())
        path = work / "mine.conf"
        head = f"""{{
"General": {{"base_model": "{root}/base", "checkpoint_dir": "{root}/new"}},
"Dataset": {{"train_file": "{root}/data/sft"}},
"Training": {{
"""
        path.write_text(f"{head}{more}}},\n}}\n")
        return ["--config_path", str(path)]

    return spoil


def given(*options: str) -> Spoil:
    return lambda root, work: list(options)


def finished_run(root: Path, work: Path) -> list[str]:
    (root / "new").mkdir()
    (root / "new" / "run.json").write_text("{}")
    (root / "new" / "model.safetensors").write_text("a model")
    return []


def checkpoint(*files: str, world_size: int = 1, weights: str = "{}") -> Spoil:
    """`new` holds a checkpoint with these files besides; the run goes on from it."""

    def spoil(root: Path, work: Path) -> list[str]:
        folder = root / "new" / "checkpoint-2"
        folder.mkdir(parents=True)
        (root / "new" / "run.json").write_text(json.dumps({"world_size": world_size}))
        (folder / "layout.json").write_text(weights)
        for name in files:
            (folder / name).touch()
        write_manifest(folder)
        return ["--resume", "auto"]

    return spoil


FINETUNE, RAY_REWARD = "Finetune/finetune.py", "rlhf/reward_trainer.py"
WATCHED = ("--train.heldout_metric",)
OTHER_MODEL = '{"transformer.wte.weight": "9x9, trained"}'

CASES = [
    Case(
        "unknown-config-key",
        SFT,
        config("batch_size: 4\nlerning_rate: 1.0e-5\n"),
        ("mine.yaml, line 2", "unknown key 'lerning_rate'", "did you mean 'learning_rate'?"),
    ),
    Case("unknown-config-key-of-pairs", REWARD, config("los: last_token\n"), ("mine.yaml, line 1", "'loss'")),
    Case(
        "unknown-nested-key",
        PPO,
        config("train:\n  seed: 1\n  sed: 2\n"),
        ("mine.yaml, line 3", "unknown key 'train.sed'", "did you mean 'seed'?"),
    ),
    Case("unknown-config-key-of-the-evaluation", JUDGE, config("limmit: 3\n"), ("mine.yaml, line 1", "'limit'")),
    Case("unknown-option", SFT, given("--lerning_rate", "1"), ("--lerning_rate", "did you mean 'learning_rate'?")),
    Case("unknown-nested-option", PPO, given("--train.sed", "1"), ("--train.sed", "did you mean 'train.seed'?")),
    Case("unknown-option-elsewhere", PPO, given("--seed", "1"), ("--seed", "did you mean 'train.seed'?")),
    Case("wrong-type", PPO, given("--train.seed", "abc"), ("--train.seed must be a whole number, not 'abc'",)),
    Case("wrong-type-in-a-file", SFT, config("epochs: many\n"), ("mine.yaml, line 1", "'epochs' must be a number")),
    Case("null-for-a-number", JUDGE, config("batch_size: null\n"), ("mine.yaml, line 1", "must be a whole number")),
    Case("a-number-that-cannot-be-meant", SFT, given("--eval_steps", "-5"), ("--eval_steps must be at least 1",)),
    Case("an-infinite-rate", SFT, config("learning_rate: .inf\n"), ("--learning_rate must be", "not inf")),
    Case("a-length-of-nothing", PPO, given("--train.batch_size", "0"), ("train.batch_size must be at least 1",)),
    Case(
        "nothing-to-stop-at", PPO, given("--on-overoptimization", "stop"), ("a score to watch", "--second_reward_model")
    ),
    Case(
        "nothing-to-go-back-to",
        PPO,
        given(*WATCHED, "metrics/rougeL", "--on-overoptimization", "stop", "--train.save_optimizer", "false"),
        ("set train.save_optimizer to true",),
    ),
    Case(
        "two-scores-to-watch", PPO, given(*WATCHED, "metrics/rougeL", "--monitor", "none"), ("contradict", "give one")
    ),
    Case("unknown-score-to-watch", PPO, given(*WATCHED, "metrics/rougel"), ("not measured", "mean 'metrics/rougeL'")),
    Case("the-reward-to-watch", PPO, given(*WATCHED, "metrics/reward"), ("is the reward itself", "name a metric")),
    Case("no-gold-to-watch", PPO, given("--monitor", "gold"), ("--monitor gold", "tldr has no gold score")),
    Case("key-given-twice", SFT, config("seed: 1\nepochs: 1\nseed: 2\n"), ("mine.yaml, line 3", "already on line 1")),
    Case("tabs-in-a-config", SFT, config("model: x\n\tseed: 1\n"), ("mine.yaml, line 2", "indent with spaces")),
    Case("no-mapping", SFT, config("- seed\n"), ("mine.yaml", "holds a list", "key: value")),
    Case(
        "config-of-another-encoding", SFT, config(b"model: caf\xe9\n"), ("mine.yaml, line 1", "save the file as UTF-8")
    ),
    Case("empty-config", SFT, config("# nothing yet\n"), ("mine.yaml", "is empty")),
    Case("no-such-config", SFT, given("--config", "absent.yaml"), ("absent.yaml", "no such file", "current folder")),
    Case(
        "other-ranks", SFT, checkpoint(world_size=2), ("by 2 processes and this run has 1", "resume with 2", "--model")
    ),
    Case(
        "with-deepspeed", SFT, checkpoint("latest"), ("checkpoint-2 was written with DeepSpeed", "launcher", "--model")
    ),
    Case(
        "other-model", SFT, checkpoint(weights=OTHER_MODEL), ("checkpoint-2 is of another model", "9x9", "begin anew")
    ),
    Case(
        "code-in-a-conf-file",
        FINETUNE,
        conf(epochs='__import__("os").getpid()'),
        ("mine.conf, line 5", "code, not a literal", "a .conf file holds literals only"),
    ),
    Case(
        "unknown-key-in-a-conf-file",
        RAY_REWARD,
        conf(batch_sise="4"),
        ("mine.conf, line 5", "unknown key 'Training.batch_sise'", "did you mean 'batch_size'?"),
    ),
    Case(
        "two-devices-in-a-conf-file",
        FINETUNE,
        conf(device='"CPU"', accelerate_mode='"GPU_DDP"'),
        ("mine.conf, line 5", "'Training.device' says CPU", "'Training.accelerate_mode' says GPU", "change one"),
    ),
    Case("a-run-is-there", SFT, finished_run, ("new already holds a run", "--overwrite", "--resume")),
]
