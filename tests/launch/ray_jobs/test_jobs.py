"""Stages as Ray jobs with two CPU workers: killed and started again, on a cluster that was up, refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from tiny_stage import environment

from launch.ray_jobs.cluster import ON_LOOPBACK
from launch.ray_jobs.output import log_path
from reward_model.model import new_reward_model, new_reward_tokenizer
from tasks.run_folder import REPO, RunFolder
from trlx.utils.metrics import read_metrics

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("ray") is None, reason="the jobs run on Ray"),
]
TWO = ["--num_workers=2", "--resources_per_worker=CPU=0.5"]

SFT = [
    *("--model={root}/base", "--data={root}/data/sft", "--precision=fp32", "--max_length=128", "--batch_size=2"),
    *("--max_steps=6", "--eval_steps=2", "--save_steps=2", "--log_steps=1", "--warmup_steps=0", "--rouge_samples=0"),
]
PPO = {
    "data": "{root}/data/sft",
    "train_limit": 8,
    "eval_limit": 4,
    "model": {"model_path": "{root}/ckpts/sft", "num_layers_unfrozen": 1},
    "train": {
        "seq_length": 96,
        "total_steps": 2,
        "batch_size": 2,
        "eval_interval": 2,
        "checkpoint_interval": 2,
        "resume_interval": 0,
        "tracker": None,
        "rollout_logging_dir": "{root}/rollouts",
    },
    "method": {"num_rollouts": 4, "chunk_size": 4, "ppo_epochs": 1, "gen_kwargs": {"max_new_tokens": 8}},
}
# In every Python process of the job: the main rank kills itself, once, as it begins to write checkpoint-4.
KILLED_WHILE_SAVING = """
import os, signal, sys

def hook(event, arguments):
    if event == "os.mkdir" and "checkpoint-4" in str(arguments[0]) and os.environ.get("RANK") == "0":
        marker = os.environ["KILLED_MARKER"]
        if not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

if "KILLED_MARKER" in os.environ:
    sys.addaudithook(hook)
"""


def job(root: Path, stage: str, ours: list[str], theirs: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    if any(option.startswith("--address") for option in ours):
        env[ON_LOOPBACK] = "0"  # else Ray looks for the cluster's part on this machine at the machine's own address
    command = [sys.executable, "-m", "launch.ray_jobs", "--stage", stage, f"--storage={root}/ray", *ours]
    quick = {"RAY_AUTH_MODE": "disabled", "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, "--", f"--root={root}", *theirs],
        cwd=REPO, env=environment(**quick, **env), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def folder_of(ran: subprocess.CompletedProcess[str]) -> Path:
    """Of Ray's records, as the command told."""
    found = re.search(r"Ray's records are in (\S+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    return Path(found.group(1))


def test_sft_killed_while_it_saves_goes_on_from_the_checkpoint_before(root: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLED_WHILE_SAVING)
    marker = tmp_path / "killed"
    ours = ["--num_workers=2", "--resources_per_worker", '{"CPU": 0.5}', "--max_failures=2"]
    # The retry must not obey --overwrite again: it would begin anew.
    ran = job(root, "sft", ours, [*SFT, "--overwrite"], PYTHONPATH=str(tmp_path), KILLED_MARKER=str(marker))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert marker.exists()
    out = RunFolder.of(root).sft
    record = json.loads((out / "run.json").read_text())
    assert record["finished"] and record["resumed_from"] == "checkpoint-2" and record["steps"] == 6
    assert record["world_size"] == record["accelerate_ranks"] == 2 and not record["deepspeed"]
    first, second = record["first_batches"]
    assert not set(first["rows"]) & set(second["rows"]) and first["sha256"] != second["sha256"]
    assert [line["step"] for line in read_metrics(out) if "eval_loss" in line] == [2, 4, 6]
    assert "[ray] sft is done; it was started 2 times" in ran.stdout
    assert "[sft] resuming from " in ran.stdout and "Traceback" not in ran.stderr
    assert log_path(folder_of(ran), 1).exists()


# A cluster as the command starts one; it tells its address and what its processes listen on, and ends with its stdin.
CLUSTER = """
import json, sys
import psutil
from launch.ray_jobs.cluster import connected

with connected(None, gpu=False):
    import ray

    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    open_to = [one.laddr.ip for process in family for one in process.net_connections("tcp") if one.status == "LISTEN"]
    print(json.dumps([ray.get_runtime_context().gcs_address, sorted(set(open_to))]), flush=True)
    sys.stdin.read()
    print(len(ray.nodes()), flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that is up before the jobs, on loopback alone, and must be so afterwards."""
    env = environment(RAY_AUTH_MODE="disabled", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(REPO))
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        address, listening = json.loads(process.stdout.readline())
        yield address
        process.stdin.close()
        assert process.stdout.read() == "1\n"
    assert listening and {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_ppo_on_a_cluster_that_is_up(root: Path, cluster: str) -> None:
    folder = RunFolder.of(root)
    shutil.copytree(root / "base", folder.sft)
    tokenizer = new_reward_tokenizer(root / "base")
    new_reward_model(root / "base", tokenizer).save_pretrained(folder.reward_model)
    tokenizer.save_pretrained(folder.reward_model)
    (root / "ppo.yaml").write_text(yaml.safe_dump(PPO))
    ran = job(root, "ppo", [f"--address={cluster}", *TWO], [f"--config={root}/ppo.yaml"])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "[ppo] done after 2 steps" in ran.stdout and "it was started 1 time\n" in ran.stdout
    assert (folder.best_policy / "model.safetensors").exists()
    assert json.loads((folder.ckpts / "checkpoint_2" / "trainer_state.json").read_text())["world_size"] == 2
    prompts = [
        {json.loads(line)["prompt"] for line in path.read_text().splitlines()}
        for path in sorted((root / "rollouts").glob("run-*/epoch-00000-rank-*.jsonl"))
    ]
    assert len(prompts) == 2 and not prompts[0] & prompts[1]


def test_a_mistake_is_told_on_one_line_and_not_tried_again(root: Path, cluster: str) -> None:
    ran = job(root, "sft", [f"--address={cluster}", *TWO, "--max_failures=5"], ["--modl=x"])
    assert ran.returncode == 2
    assert ran.stderr == "error: unknown option --modl; did you mean 'model'?\n"
    assert "Traceback" not in ran.stdout
    (started,) = folder_of(ran).glob("checkpoint_*/started.json")
    assert json.loads(started.read_text())["attempt"] == 1


def test_the_evaluations_mistake_and_a_cluster_that_is_too_small(root: Path, cluster: str) -> None:
    ran = job(root, "evaluation", [f"--address={cluster}", "--max_failures=5"], ["--data={root}/data/sft"])
    assert ran.returncode == 2 and ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1
    assert str(root) in ran.stderr  # no SFT model there
    ran = job(root, "sft", [f"--address={cluster}", "--resources_per_worker=CPU=1,GPU=1"], SFT)
    assert ran.returncode == 2
    assert (
        ran.stderr == "error: 1 workers of 1 GPU need 1 GPU, Ray has 0: lower --num_workers or --resources_per_worker\n"
    )
