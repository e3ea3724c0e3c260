"""Two ranks under `accelerate launch`: one dies, the launcher is told to stop, the judge hangs; none is left there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.local import free_port
from trlx.trainer.checkpoint_folder import read_state

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]
BOUND = 90  # seconds that a run may take, of which starting takes most
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3 * BOUND)]


def launch(mode: str, output: Path, tokenizer: str) -> subprocess.CompletedProcess[str]:
    """The worker on two ranks (DDP over gloo). Raises: TimeoutExpired after `BOUND`."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(REPO), str(HERE.parent)]),
    }
    config = output.with_suffix(".yaml")
    config.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nuse_cpu: true\nmixed_precision: 'no'\n")
    command = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.launch", "--config_file", str(config)]
    command += ["--num_processes", "2", "--main_process_port", str(free_port())]
    command += [str(HERE / "faults_worker.py"), mode, str(output), tokenizer]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=BOUND, check=False, cwd=REPO
    )


def test_when_a_rank_dies_the_other_ends_and_says_so(tmp_path: Path, tokenizer_folder: str) -> None:
    ran = launch("dying", tmp_path / "run", tokenizer_folder)
    assert ran.returncode != 0
    assert "error: another rank has ended or no longer answers" in ran.stderr
    assert "Signal 9 (SIGKILL)" in ran.stderr  # the launcher's own words


def test_ranks_that_are_told_to_stop_save_together(tmp_path: Path, tokenizer_folder: str) -> None:
    ran = launch("stopping", tmp_path / "run", tokenizer_folder)
    assert ran.stderr.count("SIGTERM: training stops after step 2") == 1
    state = read_state(tmp_path / "run" / "resume_checkpoint")
    assert state["iter_count"] == 2 and state["world_size"] == 2
    assert sorted(path.name for path in (tmp_path / "run").glob("code_*")) == ["code_0_0", "code_1_0"]


def test_a_judge_that_hangs_ends_every_rank(tmp_path: Path, tokenizer_folder: str) -> None:
    ran = launch("hanging", tmp_path / "run", tokenizer_folder)
    assert ran.returncode != 0
    assert "slow_judge did not return within 2 s (train.reward_timeout)" in ran.stderr
