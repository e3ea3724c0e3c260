"""A Trainer stage told to stop, or killed after its last step; and one whose batches are made by worker processes."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from launch import stage as stage_module
from launch.outputs import last_whole_checkpoint
from launch.stage_trainer import StageTrainer
from sft.train_gptneo_summarize import main
from trlx.utils.metrics import read_metrics


def options(root: Path, out: str, *more: str) -> list[str]:
    return [
        f"--root={root}",
        f"--out={root}/{out}",
        f"--model={root}/base",
        f"--data={root}/data/sft",
        "--max_length=128",
        "--preflight=false",
        "--max_steps=5",
        "--batch_size=4",
        "--warmup_steps=1",
        "--eval_steps=3",
        "--save_steps=100",
        "--log_steps=1",
        "--precision=fp32",
        "--rouge_samples=0",
        *more,
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def numbers(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics, without times."""
    return [{name: value for name, value in line.items() if name != "time"} for line in read_metrics(folder)]


class Notice(TrainerCallback):
    """Sends this process a signal in the third step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stage_that_was_told_to_stop_resumes_to_the_same_model(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = root / "whole", root / "cut"
    main(options(root, "whole"))
    make = StageTrainer.__init__

    def with_notice(self: StageTrainer, **keywords: Any) -> None:
        make(self, **keywords)
        self.add_callback(Notice)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "__init__", with_notice)
        with pytest.raises(SystemExit) as end:
            main(options(root, "cut"))
    assert end.value.code == 0 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "[sft] SIGTERM: training stops after step 3; --resume auto goes on from there" in capsys.readouterr().out
    assert last_whole_checkpoint(cut) == cut / "checkpoint-3"
    assert not (cut / "config.json").exists()  # no model is offered before the end
    main(options(root, "cut", "--resume=true"))
    resumed = weights(cut)
    assert all(torch.equal(value, resumed[name]) for name, value in weights(whole).items())

    assert numbers(cut) == numbers(whole)


def test_a_stage_killed_after_its_last_step_takes_none_more(root: Path) -> None:
    more = ["--max_steps=3", "--save_total_limit=1"]  # in the middle of an epoch
    main(options(root, "whole", *more))
    whole, killed = root / "whole", shutil.copytree(root / "whole", root / "killed")
    shutil.copytree(killed / "checkpoint-3", killed / "checkpoint-2")  # older ones go once the last is there
    for name in ("config.json", "model.safetensors"):  # published at the end
        (killed / name).unlink()
    main(options(root, "killed", *more, "--resume=auto"))
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    assert numbers(killed) == numbers(whole)
    again = weights(killed)
    assert all(torch.equal(value, again[name]) for name, value in weights(whole).items())


def test_worker_processes_change_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = stage_module.training_arguments
    for workers in (0, 2):

        def with_workers(*given: Any, workers: int = workers) -> Any:
            args = make(*given)
            args.dataloader_num_workers = workers
            return args

        monkeypatch.setattr(stage_module, "training_arguments", with_workers)
        main(options(root, f"workers{workers}", "--max_steps=3"))
    alone, helped = weights(root / "workers0"), weights(root / "workers2")
    assert all(torch.equal(value, helped[name]) for name, value in alone.items())
