"""Operations and bytes worked by hand, and seconds made of them."""

import pytest
import torch
from torch import nn
from transformers import GPTNeoConfig

from launch.plan.calibrate import TOY, calibrate, effort_of, two_rates
from launch.plan.counting import Linear, Sampling, Trained, Training
from launch.plan.effort import Effort, Kind, Speed
from launch.plan.memory import Setting
from launch.plan.passes import trace_ppo, trace_sft
from launch.plan.shapes import Alive, Count, on_shapes
from launch.plan.speed import step_seconds

# 100 operations, 10 bytes of memory (5 by products, 2 by the rest) a second; starting one takes a second.
SLOW = Speed(100.0, 10.0, 4.0, "by hand", packed=5.0, moved=2.0, call=1.0)


def test_products_and_bytes_worked_by_hand():
    a, b, v = torch.zeros(3, 4), torch.zeros(4, 5), torch.zeros(4, 1)

    def work():
        a @ b  # 2·3·4·5 operations; 12 + 20 + 15 numbers
        a @ v  # 2·3·4, thin; 12 + 4 + 3
        a + 1.0  # 12 + 12
        a.t()  # a view
        a.add_(1.0)  # read and written

    assert effort_of(work).done == {
        Kind(120, 4 * 47): 1,
        Kind(24, 4 * 19, thin=True): 1,
        Kind(0, 4 * 24): 2,
        Kind(0, 0): 1,
    }


def test_a_looked_up_table_is_not_read_whole():
    table, ids = torch.zeros(1000, 8), torch.tensor([1, 2])
    assert effort_of(lambda: nn.functional.embedding(ids, table)).bytes == 2 * (2 * 8 * 4)


def test_fused_attention_on_a_cpu_counts_as_two_products():
    q = torch.zeros(2, 3, 8, 4)
    done = effort_of(lambda: nn.functional.scaled_dot_product_attention(q, q, q))
    assert done.products == 2 * (2 * (2 * 3) * 8 * 8 * 4)


def test_seconds_of_each_kind():
    assert Kind(200, 50).seconds(SLOW) == 200 / 100 + 50 / 5
    assert Kind(200, 50, thin=True).seconds(SLOW) == 50 / 10
    assert Kind(2000, 50, thin=True).seconds(SLOW) == 2000 / 100
    assert Kind(0, 50).seconds(SLOW) == 50 / 2
    assert Kind(0, 50).seconds(Speed(100.0, 10.0, 4.0, "")) == 50 / 10
    assert Effort({Kind(0, 50): 3, Kind(0, 0): 1}).seconds(SLOW) == 3 * 25 + 4


def pass_of(one, many, most):
    return Linear(
        Alive(0, 0), Alive(0, 0), most, tuple(Effort({Kind(0, 2 * seconds - 2): 1}) for seconds in (one, many))
    )


def test_a_pass_between_its_ends_and_a_step_of_several():
    line = pass_of(10, 40, 4)
    assert [line.seconds(rows, SLOW) for rows in (1, 2, 4)] == [10, 20, 40]
    passes = Training(line, None)
    trained = Trained(Count(9, 5, 36, 0), 5, passes, Training(pass_of(15, 60, 4), None))
    once = step_seconds(trained, Setting(microbatch=4), True, SLOW)
    assert once == {"passes": 40, "optimizer": (3 + 7) * 4 * 5 / 10}
    twice = step_seconds(trained, Setting(microbatch=2, accumulation=2, checkpointing=True), False, SLOW)
    assert twice == {"passes": 2 * 30 + 3 * 4 * 5 / 10, "optimizer": (3 + 20) * 4 * 5 / 10}


def neo(**changes):
    return GPTNeoConfig(**{**TOY, **changes})


def test_a_traced_pass_has_the_textbook_operations():
    """2 a weight of the blocks and token forward, twice that backward, and attention's squares; the head where it is
    needed alone."""
    layers, width, vocabulary, length, labels = 4, 32, 64, 16, 3
    with on_shapes():
        traced = trace_sft(neo(), length, labels, 2, "fp32", False)
    block = 2 * length * 12 * width**2 + 2 * 2 * length**2 * width
    head = 2 * labels * vocabulary * width
    forward = layers * block + head
    for rows, effort in zip((1, 2), traced.plain.passing.efforts, strict=True):
        assert effort.products == 3 * rows * forward
    again = traced.checkpointed.passing.efforts[1].products
    last = 2 * length * 4 * width**2  # the block's last product, whose output nothing needs again
    assert again == 2 * (3 * forward + layers * (block - last))


def test_a_kept_trunk_is_not_run_again_and_a_written_token_runs_once():
    prompt, response, width, layers = 12, 4, 32, 4
    with on_shapes():
        sizes = (prompt, response, 2, 1, 2, "fp32", False)
        policy = trace_ppo(neo(), None, *sizes, slices=False)
    block = 2 * 12 * width**2
    step = policy.sampling.step.efforts[0]
    keys = prompt + response
    assert step.products == layers * (block + 2 * 2 * keys * width) + 2 * width * 64
    # Two of four blocks, policy and reference, over all tokens; heads at the response.
    tokens = prompt + response
    blocks = 2 * 2 * (tokens * block + 2 * 2 * tokens**2 * width)
    critic = 2 * (width * 2 * width + 2 * width)
    assert policy.collect.efforts[0].products == blocks + response * (2 * 2 * width * 64 + critic)
    assert isinstance(policy.sampling, Sampling)


def test_two_products_give_two_rates_and_noise_gives_none_below_zero():
    size, rows = 10, (1, 5)

    def took(operations, packed):
        return tuple(2 * n * size**2 / operations + (size + 2 * n) * size * 4 / packed for n in rows)

    assert two_rates(size, rows, took(50.0, 8.0), 4) == pytest.approx((50.0, 8.0))
    for seconds in ((1.0, 0.5), (1.0, 10.0)):
        operations, packed = two_rates(size, rows, seconds, 4)
        assert operations == 1000 / seconds[1]
        assert 0 < packed < float("inf")


def test_calibration_gives_rates():
    rates = calibrate("cpu", "fp32", seconds=0.01)
    assert all(0 < rate < 1e5 for rate in vars(rates).values())
    assert rates.call < 1.0
