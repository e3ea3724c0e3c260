"""`python -m launch plan` as people call it, on a model of a few thousand weights."""

import json

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from transformers import GPTNeoConfig

from launch.__main__ import main
from launch.plan import speed
from launch.plan.effort import Speed
from launch.plan.fleet import read_fleet
from launch.plan.memory import Setting
from launch.plan.sources import config_of
from launch.plan.write import accelerate_config, deepspeed_config
from trlx.utils.errors import UserError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = GPTNeoConfig(
        vocab_size=67, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    config.save_pretrained(folder)
    return str(folder)


SMALL = (
    "--max_length 24 --response 8 --sft_batch 2 --pairs 1 --ppo_batch 1 --chunk 2 --rollouts 2 --eval_batch 2 "
    "--reward_batch 2 --num_layers_unfrozen 1"
)


def small(model, *more):
    return ["plan", "--policy", model, "--reward", model, *SMALL.split(), *more]


def test_a_plan_from_configs_alone_with_files_that_load(model, tmp_path, capsys):
    out = tmp_path / "plan"
    main(small(model, "--gpus", "2x24GB", "--stages", "reward_model,ppo", "--out", str(out)))
    said = capsys.readouterr().out
    assert "2 GPUs of 24 GB, bf16" in said
    assert "→" in said and "trunk kept" in said and "keys and values" in said
    plan = json.loads((out / "plan.json").read_text())
    ppo = plan["stages"]["ppo"]
    assert ppo["phases"]["rollout: write"]["keys and values"] > 0
    assert f"--train.minibatch_size {ppo['setting']['microbatch']}" in ppo["command"]
    loaded = load_config_from_file(str(out / "accelerate.yaml"))
    assert loaded.num_processes == ppo["setting"]["ranks"]
    assert loaded.mixed_precision == "bf16"


def test_what_does_not_fit_is_said_with_the_remedy_and_is_an_error_on_demand(model, capsys):
    little = small(model, "--cpus", "1x801MB", "--stages", "evaluation", "--max_length", "64")
    main([*little, "--eval_batch", "512", "--reward_batch", "4096"])
    said = capsys.readouterr().out
    assert "does not fit" in said and "--reward_batch" in said
    with pytest.raises(UserError, match="does not fit"):
        main([*little, "--eval_batch", "512", "--reward_batch", "4096", "--require"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "four"], "write COUNTxSIZE, as in 4x24GB"),
        (["--gpus", "0x24GB"], "0 devices make no sense"),
        (["--gpus", "4x24"], "write COUNTxSIZE"),
        (["--gpus", "4x24XB"], "write a size"),
        (["--gpus", "4x0GB"], "makes no sense"),
        (["--gpus", "1x500MB"], "not for tensors"),
        (["--gpus", "1x24GB", "--cpus", "1x24GB"], "one of them"),
        (["--gpus", "1x24GB", "--host_memory", "much"], "--host_memory 'much'"),
        (["--gpus", "1x24GB", "--policy", "nowhere/at-all"], "sizes known without a hub"),
        (["--gpus", "1x24GB", "--response", "24"], "leaves no room"),
        (["--gpus", "1x24GB", "--max_length", "4096"], "has 64 positions"),
        (["--gpus", "1x24GB", "--num_layers_unfrozen", "3"], "has 2 layers"),
        (["--gpus", "1x24GB", "--stages", "sft,judge"], "unknown stage 'judge'"),
        (["--cpus", "1x24GB", "--precision", "fp16"], "not for CPUs"),
        (["--gpus", "1x24GB", "--chunk", "0"], "chunk"),
        (["--gpus", "1x24GB", "--tflops", "-1"], "tflops"),
        (["--gpus", ""], "write COUNTxSIZE"),
        (["--gpus", "1x24GB", "--calibrate"], "no GPU.*--tflops"),
    ],
)
def test_bad_input_is_one_line_with_the_remedy(model, arguments, message):
    with pytest.raises(UserError, match=message):
        main(small(model, *arguments))


def test_where_nothing_can_be_written_is_said_before_anything_is_counted(model, tmp_path, monkeypatch):
    monkeypatch.setattr("launch.plan.command.choices_of", None)  # not reached
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below"):
        with pytest.raises(UserError, match=f"--out {out}: {file} is a file: name a folder"):
            main(small(model, "--gpus", "1x24GB", "--out", str(out)))
    (tmp_path / "accelerate.yaml").write_text("mine")
    with pytest.raises(UserError, match="no plan wrote it: name another folder"):
        main(small(model, "--gpus", "1x24GB", "--out", str(tmp_path)))

    def refuse(*_):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr("launch.plan.write.require_writable", refuse)
    with pytest.raises(UserError, match=r"cannot write there \(No such file"):
        main(small(model, "--gpus", "1x24GB", "--out", str(tmp_path / "new")))


def test_an_adapter_is_sent_to_its_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"an adapter, .* name the model it belongs to"):
        main(["plan", "--gpus", "1x24GB", "--policy", str(tmp_path)])
    with pytest.raises(UserError) as raised:  # what is there needs no hub
        config_of(str(tmp_path / "adapter_config.json"), "--policy")
    assert "without a hub" not in str(raised.value)


def test_sizes_are_read_in_all_units():
    assert read_fleet("4x24GB", None, "1TB").bytes == 24 * 10**9
    assert read_fleet("1x80GiB", None, "1TB").bytes == 80 * 2**30
    assert read_fleet(" 2 x 1.5 gib", None, "1TB").bytes == 3 * 2**29
    cpus = read_fleet(None, "2x16GB", None)
    assert (cpus.gpu, cpus.devices, cpus.host) == (False, 2, 32 * 10**9)
    assert read_fleet(None, None, None).devices >= 1  # this machine's


def test_a_well_known_model_needs_no_hub(monkeypatch):
    def no_hub(*_, **__):
        raise UserError("no hub")

    monkeypatch.setattr("launch.published.load_config", no_hub)
    config, note = config_of("eleutherai/GPT-Neo-1.3B", "--policy")
    assert (config.num_layers, config.hidden_size) == (24, 2048)
    assert "published sizes" in note
    with pytest.raises(UserError, match=r"gpt-neo-2\.7B"):
        config_of("somebody/else", "--policy")


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        (Setting(gpu=True, precision="bf16"), "NO"),
        (Setting(ranks=2), "MULTI_GPU"),
        (Setting(zero=3, offload=True, ranks=4, gpu=True, precision="bf16"), "DEEPSPEED"),
    ],
)
def test_accelerate_reads_every_kind(setting, kind, tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump(accelerate_config(setting)))
    loaded = load_config_from_file(str(path))
    assert loaded.distributed_type == kind
    assert loaded.num_processes == setting.ranks
    assert loaded.use_cpu is not setting.gpu
    if setting.zero:
        assert loaded.deepspeed_config["zero_stage"] == 3
        assert loaded.deepspeed_config["offload_param_device"] == "cpu"


def test_the_deepspeed_file_has_what_deepspeed_needs():
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    written = deepspeed_config(Setting(zero=2, offload=True, gpu=True))
    zero = DeepSpeedZeroConfig(**written["zero_optimization"])  # refuses keys that it does not know
    assert (zero.stage, zero.offload_optimizer.device, zero.reduce_bucket_size) == (2, "cpu", 50_000_000)
    assert written["train_micro_batch_size_per_gpu"] == "auto"
    pieces = DeepSpeedZeroConfig(**deepspeed_config(Setting(zero=3, offload=True, ranks=2))["zero_optimization"])
    assert (pieces.stage, pieces.offload_optimizer.device, pieces.offload_param.device) == (3, "cpu", "cpu")


@pytest.mark.parametrize(
    ("stage", "phases"), [("sft", ["evaluation"]), ("reward_model", ["evaluation", "final scores"])]
)
def test_zero_3_is_tried_for_the_stages_of_the_trainer(model, stage, phases):
    from launch.plan.job import Job
    from launch.plan.options import PlanOptions
    from launch.plan.settings import settings_of

    options = PlanOptions(policy=model, reward=model, max_length=24, response=8, sft_batch=2, num_layers_unfrozen=1)
    job = Job(options, read_fleet("2x24GB", None, "64GB"))
    tried = [setting for setting in settings_of(stage, job) if setting.zero == 3]
    assert {setting.offload for setting in tried} == {False, True}
    assert [phase.name for phase in job.memory(stage, tried[0]).phases[2:]] == phases
    alone = Job(options, read_fleet("1x24GB", None, "64GB"))
    assert not any(setting.zero == 3 for setting in settings_of(stage, alone))


def test_more_devices_are_faster_and_checkpointing_slower(model):
    from launch.plan.job import Job
    from launch.plan.options import PlanOptions

    options = PlanOptions(policy=model, reward=model, max_length=24, response=8, sft_batch=2, num_layers_unfrozen=1)
    job = Job(options, read_fleet("4x24GB", None, "64GB"))
    rate = Speed(1e12, 1e11, 1e10, "here")
    plain = Setting(zero=2, ranks=1, microbatch=2, gpu=True, precision="bf16")

    def seconds(**changes):
        return speed.thousand_samples(job, "sft", Setting(**{**vars(plain), **changes}), rate)

    assert seconds(ranks=4) < seconds()
    assert seconds(checkpointing=True) > seconds()
    assert seconds(offload=True) > seconds()
