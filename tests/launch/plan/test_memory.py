"""The terms by ZeRO's stage and offload, by numbers worked by hand."""

import pytest
import torch

from launch.plan.counting import Linear, Sampling, Trained, Training, count_sampling
from launch.plan.fleet import Fleet
from launch.plan.memory import (
    DEFAULT_BUCKET,
    PPOSizes,
    Setting,
    StageMemory,
    evaluating_phase,
    evaluation_phases,
    finished_phase,
    fixed_parts,
    ppo_phases,
    training_phases,
)
from launch.plan.passes import PolicyPasses, language_model
from launch.plan.settings import Choice, fits, nearest_miss, proposal
from launch.plan.shapes import Alive, Count, count, floating, on_shapes
from launch.plan.sources import config_of
from trlx.models.modeling_ppo import AutoModelForCausalLMWithHydraValueHead

# 1000 numbers of which 600 train, 10 bytes of buffers.
WHOLE, HALF = Count(1000, 600, 4000, 10), Count(1000, 600, 2000, 10)


def line(one, many, most=4):
    return Linear(Alive(0, one), Alive(0, many), most)


def trained(weights=WHOLE):
    passes = Training(passing=line(100, 400), first=line(900, 1200))
    return Trained(weights, 50, passes, Training(line(30, 60), line(830, 860)))


@pytest.mark.parametrize(
    ("weights", "setting", "parts", "host"),
    [
        (WHOLE, Setting(), {"weights": 4010, "masters": 0, "optimizer": 4800, "buffers": 0}, 0),
        (WHOLE, Setting(ranks=2), {"weights": 4010, "masters": 0, "optimizer": 4800, "buffers": 2400}, 0),
        (
            HALF,
            Setting(zero=2, ranks=2, precision="bf16"),
            {"weights": 2010, "masters": 1200, "optimizer": 2400, "buffers": 14},
            0,
        ),
        (
            HALF,
            Setting(zero=2, offload=True, ranks=2, precision="bf16"),
            {"weights": 2010, "masters": 0, "optimizer": 0, "buffers": 14},
            (4 + 8 + 4) * 300,
        ),
        (
            HALF,
            Setting(zero=3, ranks=2, precision="bf16"),
            {"weights": 1010, "masters": 1200, "optimizer": 2400, "buffers": 2000 + 14},
            0,
        ),
        (
            HALF,
            Setting(zero=3, offload=True, ranks=2, precision="bf16"),
            {"weights": 10, "masters": 0, "optimizer": 0, "buffers": 2000 + 14},
            16 * 300 + 1000,
        ),
    ],
)
def test_what_lies_on_a_device_all_the_time(weights, setting, parts, host):
    assert fixed_parts(weights, setting, bucket=7) == (parts, host)


def test_training_of_one_process_first_pass_step_and_accumulation():
    passing, stepping = training_phases(trained(), Setting(microbatch=4), fused=True, bucket=0)
    assert passing.parts["gradients"] == 1200 - 400  # those that are there at the worst moment
    assert passing.bytes == 4010 + 4800 + 1200
    assert stepping.bytes == 4010 + 4800 + 2400
    passing, _ = training_phases(trained(), Setting(microbatch=2, accumulation=2), fused=True, bucket=0)
    assert passing.parts["gradients"] == 2400  # the first microbatch's
    assert passing.parts["activations"] == 200


def test_an_optimizer_that_is_not_fused_takes_room_in_its_step():
    on_cpu = training_phases(trained(), Setting(), fused=False, bucket=0)[1]
    on_gpu = training_phases(trained(), Setting(gpu=True), fused=False, bucket=0)[1]
    fused = training_phases(trained(), Setting(), fused=True, bucket=0)[1]
    assert on_cpu.bytes - fused.bytes == 2 * 4 * 50
    assert on_gpu.bytes - fused.bytes == 4 * 600


def test_zero_shares_gradients_and_checkpointing_is_taken():
    setting = Setting(zero=2, ranks=3, precision="bf16", checkpointing=True, microbatch=4)
    passing, stepping = training_phases(trained(HALF), setting, fused=True, bucket=0)
    assert passing.parts["gradients"] == 2 * 200
    assert stepping.parts["gradients"] == 4 * 200
    assert passing.parts["activations"] == 60


def policy():
    parts = {"reference": Count(100, 0, 400, 2), "critic": Count(50, 50, 200, 0)}
    sampling = Sampling(cache_row=11, read=line(40, 160), step=line(1, 4))
    return PolicyPasses(trained(), parts["reference"], parts["critic"], 13, sampling, line(70, 280))


SIZES = PPOSizes(prompt=8, rollouts=8, chunk=4, batch=4, reward_batch=2)


def test_phases_of_ppo():
    reward = (Count(300, 0, 1200, 0), line(5, 20))
    phases = {phase.name: phase for phase in ppo_phases(policy(), reward, Setting(microbatch=4), SIZES, 0)}
    always = 4010 + 4800 + 1200  # policy, critic and reference; the optimizer; the reward model
    assert phases["rollout: write"].bytes == always + 4 * 11 + 160 + 8 * 13
    assert phases["rollout: gather"].bytes == always + 4 * 11 + 8 * 13 + 4 * 13
    assert phases["rollout: score"].bytes == always + 8 * 13 + 10
    assert phases["rollout: log-probs"].bytes == always + 8 * 13 + 280
    assert phases["train: forward and backward"].bytes == always + 8 * 13 + 4 * 13 + 1200
    assert phases["train: optimizer step"].bytes == always + 8 * 13 + 4 * 13 + 2400
    for phase in phases.values():
        assert phase.parts["weights"] == 4010 - 402 - 200
        assert (phase.parts["reference"], phase.parts["critic"]) == (402, 200)


def test_a_reward_model_apart_is_not_on_the_device():
    names = [phase.name for phase in ppo_phases(policy(), None, Setting(), SIZES, 0)]
    assert "rollout: score" not in names
    assert all("reward model" not in phase.parts for phase in ppo_phases(policy(), None, Setting(), SIZES, 0))


def test_zero_3_gathers_the_whole_policy_for_rollouts():
    setting = Setting(zero=3, ranks=2, precision="bf16")
    write = ppo_phases(policy(), None, setting, SIZES, 0)[0]
    assert write.parts["buffers"] == 4000  # all of it, whatever DeepSpeed's own limit
    assert write.parts["weights"] == 2010


def test_zero_3_has_the_whole_model_in_an_evaluation_of_training(monkeypatch):
    monkeypatch.setattr("launch.plan.memory.GATHERED", 300)  # of the 1000 numbers
    setting = Setting(zero=3, ranks=2, precision="bf16")
    training = training_phases(trained(HALF), setting, False, 7)[0]
    assert training.parts["buffers"] == 2 * 300 + 14
    phase = evaluating_phase(HALF, setting, 7, {"keys and values": 11})
    assert phase.parts == {**fixed_parts(HALF, setting, 7)[0], "buffers": 2000 + 14, "keys and values": 11}


def test_the_finished_reward_model_lies_beside_the_pieces_of_the_trained_one():
    setting = Setting(zero=3, offload=True, ranks=2, precision="bf16")
    phase = finished_phase(HALF, (Count(1000, 0, 4000, 10), line(5, 20)), setting, 7, rows=4)
    assert phase.parts["reward model"] == 4010 and phase.parts["activations"] == 20
    assert phase.parts["weights"] == 10 and phase.host == 16 * 300 + 1000


def test_evaluation_has_one_policy_and_the_judge():
    written = (Count(10, 10, 40, 0), Sampling(11, line(40, 160), line(1, 4)))
    write, score = evaluation_phases(written, (Count(3, 3, 12, 0), line(5, 20)), Setting(gpu=True), SIZES)
    assert write.bytes == 40 + 12 + 44 + 160
    assert score.bytes == 40 + 12 + 10


def choice(device, host, seconds):
    setting = Setting(offload=bool(host))
    phases = training_phases(trained(), setting, True, 0)
    phases[0].parts["activations"] += device
    phases[0] = type(phases[0])(phases[0].name, phases[0].parts, host)
    memory = StageMemory("sft", setting, phases)
    return Choice(memory, seconds, fits(memory, FLEET))


FLEET = Fleet(1, 8 * 10**8 + 20_000, gpu=False, host=16 * 10**8)


def test_the_fastest_that_fits_is_proposed_and_else_the_nearest_is_named():
    big, fast, slow = choice(50_000, 0, 1.0), choice(0, 0, 2.0), choice(0, 0, 3.0)
    assert [each.fits for each in (big, fast, slow)] == [False, True, True]
    assert proposal([big, fast, slow]) is fast
    assert proposal([big]) is None
    bigger = choice(90_000, 0, 0.5)
    nearest, why = nearest_miss([bigger, big], FLEET)
    assert nearest is big
    assert "activations" in why and "--max_length" in why
    assert "where 0.0 MB can be had" in why  # 20,000 bytes: not "0.0 GB"
    hungry = choice(0, 10**9, 1.0)
    assert not hungry.fits
    assert "host memory" in nearest_miss([hungry], FLEET)[1]


def test_a_buffer_that_is_larger_than_the_model_costs_a_gpu_all_of_it():
    setting = Setting(zero=2, ranks=2)
    assert fixed_parts(WHOLE, setting, bucket=10**6)[0]["buffers"] == 4 * 600
    assert fixed_parts(WHOLE, Setting(zero=2, ranks=2, gpu=True), bucket=10**6)[0]["buffers"] == 4 * 10**6


def test_gpt_neo_1_3b_on_four_gpus_by_hand():
    """ZeRO-2 in bf16 of the top 8 of 24 blocks, 550 tokens: the numbers of `docs/planning.md`'s first command."""
    with on_shapes(), floating(torch.bfloat16):
        base = language_model(config_of("EleutherAI/gpt-neo-1.3B", "--policy")[0], fused=True)
        model = AutoModelForCausalLMWithHydraValueHead(base, num_layers_unfrozen=8)
        row = count_sampling(base, 50257, 500, 50, 1, slices=False).cache_row
    # Queries, keys, values; the product after them with its bias; the MLP's two; two norms.
    block = 3 * 2048**2 + (2048**2 + 2048) + (2048 * 8192 + 8192) + (8192 * 2048 + 2048) + 4 * 2048
    assert block == 50_352_128
    top, head = 8 * block + 2 * 2048, (2048 * 4096 + 4096) + (4096 + 1)
    masks = 2048**2  # bytes of one block's causal mask
    assert count(model.frozen_head) == Count(top, 0, 2 * top, 8 * masks)
    whole = count(model)
    assert whole.trained == top + head == 411_217_921
    assert row == 24 * 2 * 2048 * 550 * 2 == 108_134_400
    assert count(base).bytes == 2 * 1_315_575_808 + 24 * masks
    setting = Setting(zero=2, ranks=4, precision="bf16", gpu=True)
    parts, host = fixed_parts(whole, setting, DEFAULT_BUCKET)
    share = 102_804_481  # a quarter of what trains, rounded up
    assert (parts["masters"], parts["optimizer"], host) == (4 * share, 8 * share, 0)
    assert parts["buffers"] == 2 * 500_000_000
