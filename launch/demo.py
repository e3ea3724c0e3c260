"""The whole pipeline in miniature: posts, SFT, preference pairs, reward model, PPO, evaluation; `make demo`.

    python -m launch.demo                              into runs/demo
    python -m launch.demo --root runs/seed2 --seed 2   another seed

Each stage is the real script under its real launcher; only the YAML files in configs/tiny are small. The output of
every stage is kept in `<root>/logs`.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from launch.ended import Ending
from launch.local import (
    Machine,
    look_around,
    ppo_command,
    python_command,
    run_stage,
    stage_environment,
    trainer_command,
)
from tasks.run_folder import REPO, RunFolder
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError, run_main
from trlx.utils.files import write_json
from trlx.utils.op_locks import remove_stale_locks

# What a demo, and studies of it, write below its root; `--overwrite` removes these and nothing else.
OWNED = (
    *("base", "data", "ckpts", "metadata", "logs", "study", ".cache"),
    *("results.json", "frontier.json", "report.html", "timing.json"),
)
MARKER = "demo.json"
SECOND_SEED = 100  # what the second reward model's seed has above the others'


@dataclass
class DemoOptions:
    """Options of the demo.

    Args:
        root: everything is written below it.
        seed: of the posts, the weights, the order of data and the sampling.
        processes: ranks of each training stage, at most one a GPU; the processor cores are shared among them.
        overwrite: replace an earlier demo in the root.
        configs: folder of the YAML files of the stages.
        sft_steps: optimizer steps of SFT; null for the YAML's.
        reward_steps: optimizer steps of the reward models; null for each YAML's. PPO is told to accept a reward model
            that fails its gate then.
        ppo_steps: optimizer steps of PPO; null for the YAML's.
        posts: posts to evaluate on; null for the YAML's.
    """

    root: str = str(REPO / "runs" / "demo")
    seed: int = 1
    processes: int = 2
    overwrite: bool = False
    configs: str = str(REPO / "configs" / "tiny")
    sft_steps: int | None = None
    reward_steps: int | None = None
    ppo_steps: int | None = None
    posts: int | None = None


def stages(options: DemoOptions, machine: Machine) -> Iterator[tuple[str, list[str]]]:
    """(what it does, its command) of each stage, in order."""
    root = ["--root", options.root]
    seed = ["--seed", str(options.seed)]

    def config(name: str) -> list[str]:
        return ["--config", str(Path(options.configs) / f"{name}.yaml"), *root]

    def trainer(script: str, name: str, steps: int | None, own_seed: int = options.seed) -> list[str]:
        return trainer_command(machine, script, [*config(name), "--seed", str(own_seed), *_option("max_steps", steps)])

    def miniature(what: str) -> list[str]:
        return python_command(["-m", "tasks.miniature", what, *config(what), *seed])

    yield "posts, tokenizer and a random model", miniature("posts")
    yield "SFT", trainer("sft/train_gptneo_summarize.py", "sft", options.sft_steps)
    yield "preference pairs", miniature("pairs")
    reward_script = "reward_model/train_reward_model_gptneo.py"
    yield "reward model", trainer(reward_script, "reward_model", options.reward_steps)
    # Other pairs, another seed: a judge that PPO never trains against.
    second = trainer(reward_script, "second_reward_model", options.reward_steps, options.seed + SECOND_SEED)
    yield "second reward model", second
    ppo = [*config("ppo"), "--train.seed", str(options.seed), *_option("train.total_steps", options.ppo_steps)]
    ppo += ["--accept_failing_reward_model", "true"] if options.reward_steps is not None else []
    yield "PPO", ppo_command(machine, "configs/tiny/accelerate.yaml", ppo)
    frontier = [*config("frontier"), *seed, *_option("limit", options.posts)]
    yield "frontier", python_command(["-m", "evaluation", "frontier", *frontier])
    judge = [*config("inference"), *seed, *_option("limit", options.posts)]
    yield "evaluation", python_command([str(REPO / "trlx_inference_gptneo.py"), *judge])


def record_folders(root: Path) -> dict[str, Path]:
    """Where those stages that train keep their records."""
    run = RunFolder(root)
    return {
        "SFT": run.sft,
        "reward model": run.reward_model,
        "second reward model": run.second_reward_model,
        "PPO": run.ppo_logs,
    }


def _option(name: str, value: int | None) -> list[str]:
    return [] if value is None else [f"--{name}", str(value)]


def claim_root(options: DemoOptions) -> None:
    """Make the root ready, or refuse. Raises: UserError when it holds a run and --overwrite was not given."""
    root = Path(options.root)
    if root.resolve() == REPO:
        raise UserError("--root is the repository itself, which holds real runs: name a folder below runs/")
    held = [root / name for name in OWNED if (root / name).exists()]
    if held and not (root / MARKER).exists():
        raise UserError(f"{root} holds files that no demo wrote (no {MARKER}): name another --root or empty it")
    if held and not options.overwrite:
        raise UserError(f"{root} already holds a demo: pass --overwrite to replace it, or another --root")
    for path in held:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def run_demo(options: DemoOptions, say: Callable[[str], None] = print) -> dict[str, float]:
    """Run every stage; returns the seconds each took."""
    machine = look_around(options.processes)
    claim_root(options)
    root = Path(options.root).resolve()
    if not machine.deepspeed:
        say(f"{machine.reason}: the same scripts run without it, in one process")
    environment = stage_environment(machine)
    remove_stale_locks(Path(environment["TORCH_EXTENSIONS_DIR"]))
    write_json(root / MARKER, dataclasses.asdict(options))
    seconds: dict[str, float] = {}
    steps, records = list(stages(options, machine)), record_folders(root)
    for number, (name, command) in enumerate(steps, start=1):
        say(f"\n=== {number} of {len(steps)}: {name}")
        start = time.perf_counter()
        log = root / "logs" / f"{number}_{name.replace(' ', '_')}.log"
        ending = Ending(records.get(name))
        run_stage(command, environment, log)
        if ending.stopped_early():
            raise UserError(f"{name} was stopped before its end: see {log}; begin again with --overwrite")
        seconds[name] = round(time.perf_counter() - start, 1)
    write_json(root / "timing.json", {"seconds": seconds, "total": round(sum(seconds.values()), 1)})
    return seconds


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and run."""
    options = parse_config(DemoOptions, "The whole pipeline in miniature, from nothing to the two tables.", argv)
    seconds = run_demo(options, lambda line: print(line, flush=True))
    root = Path(options.root)
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    print(f"\nDone in {sum(seconds.values()) / 60:.1f} minutes ({spent}).")
    print(f"  checkpoints   {root}/ckpts/sft, {root}/ckpts/reward_model, {root}/ckpts/best_checkpoint")
    print(f"  logs          {root}/logs; curves: tensorboard --logdir {root}/ckpts")


if __name__ == "__main__":
    run_main(main)
