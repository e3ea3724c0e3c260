"""What a `.conf` file amounts to, worked by hand; and every key that cannot be meant refused by name and line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from launch.conf.command import stage_options
from launch.conf.literals import read_conf
from launch.conf.translation import Kind, Translation, translate
from tasks.chosen import Part
from tasks.instruct import clean_prompt
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx_gptneo_text_summarization import PPOOptions

FINETUNE = """# I am python, not json
{
    "General": {
        "base_model": "gpt2", "gpt_base_model": True,
        "output_dir": "runs/out", "checkpoint_dir": "runs/ck/sft",
        "config": {"trust_remote_code": False, "use_auth_token": None,},
        "lora_config": {},
    },
    "Dataset": {"train_file": "rows.jsonl", "validation_file": None, "validation_split_percentage": 5},
    "Training": {
        "optimizer": "AdamW", "batch_size": 4, "epochs": 3, "learning_rate": 1e-5, "lr_scheduler": "cosine",
        "weight_decay": 0.1, "device": "CPU", "num_training_workers": 2, "resources_per_worker": {"CPU": 32},
    },
}
"""
REWARD = """{
    "General": {"base_model": "ck/sft", "checkpoint_dir": "ck/rm"},
    "Dataset": {"train_file": "rows.jsonl", "validation_file": "others.jsonl"},
    "Training": {"device": "GPU", "num_training_workers": 1, "resources_per_worker": {"CPU": 2, "fast_disk": 1}},
}
"""
PPO = """{
    "General": {
        "model_name": "gpt2", "model_pretrain": "ck/sft", "rm_name": "some/reward-model", "rm_pretrain": None,
        "output_dir": "runs/out", "checkpoint_dir": "runs/ck/ppo",
    },
    "Dataset": {"train_file": "rows.jsonl", "validation_file": None, "validation_split_percentage": None},
    "Training": {
        "optimizer": "AdamW",
        "experience_batch_size": 2,
        "epochs": 3,
        "learning_rate": 1e-5,
        "kl_coeff": 0.2,
        "num_training_workers": 2,
        "resources_per_worker": {"CPU": 0.5},
    },
}
"""


@pytest.fixture(autouse=True)
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that the confs name; five prompts."""
    monkeypatch.chdir(tmp_path)
    text = "".join(json.dumps({"prompt": f"Name {number} things."}) + "\n" for number in range(5))
    for name in ("rows.jsonl", "others.jsonl"):
        Path(name).write_text(text)


def translated(kind: Kind, text: str) -> Translation:
    Path("x.conf").write_text(text)
    return translate(kind, read_conf("x.conf"))


def test_finetune() -> None:
    found = translated("finetune", FINETUNE)
    assert found.stage == "sft"
    assert found.command_line() == [
        *("--model=gpt2", "--root=runs/out", "--out=runs/ck/sft"),
        *("--batch_size=4", "--eval_batch_size=4", "--epochs=3.0", "--learning_rate=1e-05"),
        *("--lr_scheduler=cosine", "--weight_decay=0.1", "--data=rows.jsonl", "--valid_percentage=5.0"),
    ]
    assert found.job == {"num_workers": 2, "resources_per_worker": '{"CPU": 32.0}', "storage": "runs/out/ray"}
    assert found.notes == ["General.gpt_base_model: prompts are written alike for every model"]


def test_reward() -> None:
    found = translated("reward", REWARD)
    assert found.stage == "reward_model"
    assert found.command_line() == [
        "--model=ck/sft",
        "--out=ck/rm",
        "--data=rows.jsonl",
        "--valid_percentage=null",  # whatever configs/instruct says
        "--valid_data=others.jsonl",
    ]
    assert found.job["num_workers"] == 1 and "storage" not in found.job
    assert json.loads(found.job["resources_per_worker"]) == {"CPU": 2, "GPU": 1, "fast_disk": 1}


def test_ppo() -> None:
    found = translated("ppo", PPO)
    assert found.stage == "ppo"
    assert found.command_line() == [
        *("--model.model_path=ck/sft", "--tokenizer.tokenizer_path=ck/sft", "--reward_model=some/reward-model"),
        *("--root=runs/out", "--train.logging_dir=runs/out/ppo", "--train.checkpoint_dir=runs/ck/ppo"),
        *("--optimizer.name=adamw", "--optimizer.kwargs.lr=1e-05"),
        *("--method.num_rollouts=2", "--method.chunk_size=2", "--train.batch_size=2"),
        *("--method.init_kl_coef=0.2", "--data=rows.jsonl", "--valid_percentage=null"),
    ]
    assert found.job == {"num_workers": 2, "resources_per_worker": '{"CPU": 0.5}', "storage": "runs/out/ray"}
    assert [note.split(":")[0] for note in found.notes] == ["General.model_name"] and found.passes == 3


def epochs(text: str, *behind: str, workers: int = 2) -> int:
    return parse_config(PPOOptions, "", stage_options(translated("ppo", text), workers, behind)).train.epochs


@pytest.mark.parametrize(
    ("behind", "workers", "expected"),
    [
        ((), 2, 4),  # 3 passes over 5 prompts, 2 · 2 at a time: 15 / 4
        ((), 1, 8),  # 15 / 2
        (("--data", "many.jsonl"), 2, 15),  # 60 / 4
        (("--data=many.jsonl", "--train_limit=7"), 2, 6),  # 21 / 4
        (("--method.num_rollouts", "3"), 2, 2),  # whole chunks of 2: 15 / 8
        (("--data", "nowhere.jsonl", "--train.epochs", "9"), 2, 9),
    ],
)
def test_ppos_passes_are_over_the_prompts_that_the_options_name(
    behind: tuple[str, ...], workers: int, expected: int
) -> None:
    Path("many.jsonl").write_text("".join(json.dumps({"prompt": f"Draw {n} things."}) + "\n" for n in range(20)))
    assert epochs(PPO, *behind, workers=workers) == expected


def test_ppos_passes_are_over_the_rows_that_are_not_held_out() -> None:
    kept = sum(not Part(50, True).has(clean_prompt(f"Name {n} things.")) for n in range(5))
    assert 0 < kept < 5
    assert epochs(PPO, "--valid_percentage=50", workers=1) == math.ceil(3 * kept / 2)


def test_ppos_iterations() -> None:
    assert epochs(PPO.replace('"epochs": 3', '"training_iteration": 7'), "--data", "nowhere.jsonl") == 7


def test_what_passes_cannot_be_counted_with() -> None:
    with pytest.raises(UserError, match=r"method.chunk_size must be at least 1, not 0"):
        epochs(PPO, "--method.chunk_size=0")


@pytest.mark.parametrize(
    ("said", "gpu"),
    [
        ('"device": "GPU", "accelerate_mode": "GPU_DDP"', True),
        ('"device": "GPU", "resources_per_worker": {"CPU": 1}', True),
        ('"accelerate_mode": "GPU_DDP", "resources_per_worker": {"gpu": 1}', True),
        ('"resources_per_worker": {"GPU": 1}', True),
        ('"device": "CPU", "accelerate_mode": "CPU_DDP", "resources_per_worker": {"GPU": 0}', False),
    ],
)
def test_keys_that_agree_on_a_gpu(said: str, gpu: bool) -> None:
    text = REWARD.replace('"device": "GPU"', said).replace(', "resources_per_worker": {"CPU": 2, "fast_disk": 1}', "")
    resources = json.loads(translated("reward", text).job.get("resources_per_worker", "{}"))
    assert resources.get("GPU", 0) == gpu


def test_models_that_were_not_trained_before() -> None:
    base = PPO.replace('"ck/sft"', "None")
    assert translated("ppo", base).options["model.model_path"] == "gpt2"
    trained = PPO.replace('"rm_pretrain": None', '"rm_pretrain": "ck/rm"')
    assert translated("ppo", trained).options["reward_model"] == "ck/rm"


def test_no_adapter_and_no_device_is_no_option() -> None:
    plain = FINETUNE.replace('"lora_config": {}', '"lora_config": None').replace('"device": "CPU",', "")
    assert translated("finetune", plain).options == translated("finetune", FINETUNE).options
    assert translated("finetune", plain.replace("True", "False")).notes == []


LORA = '"lora_config": {"task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 32, "lora_dropout": 0.1}'


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        (
            "finetune",
            '"lora_config": {}',
            LORA,
            r"line 7: 'General.lora_config' is not of this stage.*model.peft_config",
        ),
        (
            "finetune",
            '"trust_remote_code": False',
            '"trust_remote_code": True',
            r"line 6: 'General.config.trust_remote",
        ),
        ("finetune", '"use_auth_token": None', '"use_auth_token": "x"', r"line 6: .*use_auth_token.*HF_TOKEN"),
        ("finetune", '"batch_size"', '"batch_sise"', r"line 11: .*'Training.batch_sise'; did you mean 'batch_size'"),
        ("finetune", '"General"', '"Generall"', r"x.conf: no section 'General'"),
        ("finetune", '"base_model": "gpt2", ', "", r"line 3: missing key 'General.base_model' \(text\)"),
        ("finetune", '"epochs": 3', '"epochs": "three"', r"line 11: 'Training.epochs' must be a number.* not 'three'"),
        ("finetune", '"epochs": 3', '"epochs": 0', r"line 11: 'Training.epochs' must be above 0, not 0"),
        ("finetune", '"batch_size": 4', '"batch_size": 1.5', r"line 11: 'Training.batch_size' must be a whole number"),
        ("finetune", '"AdamW"', '"Lion"', r"line 11: 'Training.optimizer' must be AdamW here, not 'Lion'"),
        ("finetune", '"cosine"', '"cosin"', r"line 11: unknown 'Training.lr_scheduler' 'cosin'; did you mean 'cosine'"),
        ("finetune", '"device": "CPU"', '"device": "HPU"', r"line 12: 'Training.device' must be CPU or GPU, not 'HPU'"),
        (
            "finetune",
            '{"CPU": 32}',
            '{"CPU": 32, "GPU": 1}',
            r"line 12: 'Training.device' says CPU, and 'Training.resources_per_worker' says GPU: change one",
        ),
        (
            "finetune",
            '"device": "CPU"',
            '"device": "CPU", "accelerate_mode": "GPU_DDP"',
            r"line 12: 'Training.device' says CPU, and 'Training.accelerate_mode' says GPU: change one of them",
        ),
        (
            "reward",
            '"device": "GPU"',
            '"device": "GPU", "accelerate_mode": "CPU_DDP"',
            r"line 4: 'Training.device' says GPU, and 'Training.accelerate_mode' says CPU: change one of them",
        ),
        (
            "reward",
            '"CPU": 2',
            '"CPU": 2, "gpu": 0',
            r"line 4: 'Training.device' says GPU, and 'Training.resources_per_worker' says CPU: change one of them",
        ),
        ("finetune", '"gpt2"', '""', r"line 4: 'General.base_model' is empty: write a name$"),
        ("finetune", '"rows.jsonl"', '" "', r"line 9: 'Dataset.train_file' is empty: write a name$"),
        ("reward", '"others.jsonl"', '""', r"line 3: 'Dataset.validation_file' is empty: write a name, or None$"),
        ("ppo", '"ck/sft"', '""', r"line 3: 'General.model_pretrain' is empty: write a name, or None$"),
        ("finetune", '"weight_decay": 0.1', '"weight_decay": -1', r"line 12: Training.weight_decay must be .* not -1"),
        ("ppo", '"kl_coeff": 0.2', '"kl_coeff": -1', r"line 12: Training.kl_coeff must be a number that is 0 or more"),
        ("ppo", '"kl_coeff"', '"weight_decay": -1, "kl_coeff"', r"line 12: Training.weight_decay must be .* not -1"),
        ("finetune", '{"CPU": 32}', '{"CPU": "x"}', r"line 12: 'Training.resources_per_worker': CPU must be a number"),
        ("finetune", '"device": "CPU"', '"accelerate_mode": "GPU_FSDP"', r"line 12: .*must be CPU_DDP or GPU_DDP"),
        (
            "finetune",
            '"num_training_workers": 2',
            '"num_training_workers": 0',
            r"line 12: .*num_training_workers.*above",
        ),
        ("finetune", '"rows.jsonl"', '"row.jsonl"', r"line 9: 'Dataset.train_file': no such file: row.jsonl"),
        ("finetune", '"validation_file": None', '"validation_file": "rows.jsonl"', r"line 9: .*exclude each other"),
        ("finetune", 'percentage": 5', 'percentage": 0', r"line 9: .*must be above 0 and below 100, not 0"),
        ("finetune", 'percentage": 5', 'percentage": 100', r"line 9: .*must be above 0 and below 100, not 100"),
        ("finetune", 'percentage": 5', 'percentage": 150', r"line 9: .*must be above 0 and below 100, not 150"),
        ("reward", '"others.jsonl"', '"nowhere.csv"', r"line 3: 'Dataset.validation_file': no such file: nowhere.csv"),
        ("ppo", '"rm_name": "some/reward-model", ', "", r"line 2: no model: set 'General.rm_pretrain'"),
        ("ppo", '"epochs": 3', '"epochs": 3, "training_iteration": 3', r"line 10: .*exclude each other"),
        ("ppo", '"experience_batch_size": 2,', "", r"line 10: 'Training.epochs' are counted in"),
        (
            "ppo",
            '"kl_coeff"',
            '"batch_size": 2, "kl_coeff"',
            r"line 12: 'Training.batch_size' is not of PPO: .*experience",
        ),
        (
            "ppo",
            '"kl_coeff"',
            '"lr_scheduler": "linear", "kl_coeff"',
            r"line 12: 'Training.lr_scheduler' is not of PPO",
        ),
        ("ppo", '"AdamW"', '"adamv"', r"line 8: 'Training.optimizer': .*adamv.*did you mean 'adam'"),
        ("ppo", '"model_name"', '"base_model"', r"line 3: unknown key 'General.base_model'"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_line(kind: Kind, old: str, new: str, message: str) -> None:
    text = {"finetune": FINETUNE, "reward": REWARD, "ppo": PPO}[kind]
    assert old in text
    with pytest.raises(UserError, match=message) as refused:
        translated(kind, text.replace(old, new))
    assert str(refused.value).startswith("x.conf") and "\n" not in str(refused.value)
