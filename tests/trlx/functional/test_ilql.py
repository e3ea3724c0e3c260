"""ILQL's objectives: every part worked by hand, and what must hold for any numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trlx.data.ilql_config import ILQLConfig
from trlx.data.ilql_types import ILQLBatch
from trlx.functional.ilql import (
    at_positions,
    awac_weights,
    bellman_targets,
    expectile_loss_sum,
    of_tokens,
    polyak_,
    q_loss_sum,
    steered_logits,
    token_loss_sum,
)
from trlx.utils.errors import UserError

NAN = float("nan")
ALL = torch.ones(1, 2, dtype=torch.bool)


def test_bellman_targets_golden() -> None:
    goes_on = torch.tensor([[True, True, False]])
    next_values = torch.tensor([[2.0, -4.0, NAN]], requires_grad=True)
    targets = bellman_targets(torch.tensor([[0.5, 0.0, -1.0]]), next_values, goes_on, gamma=0.5)
    # 0.5 + ½·2,  0 + ½·(−4),  −1 and nothing after the end, whatever V says there
    assert targets.tolist() == [[1.5, -2.0, -1.0]]
    assert not targets.requires_grad


def test_q_loss_golden() -> None:
    mask = torch.tensor([[True, True, False]])
    q = torch.tensor([[2.0, 3.0, NAN]], requires_grad=True)
    loss = q_loss_sum(q, torch.tensor([[1.5, -1.0, 7.0]]), mask)
    assert loss.item() == 0.25 + 16.0
    loss.backward()
    assert q.grad is not None and q.grad[0, :2].tolist() == [1.0, 8.0]  # 2 (Q − target)


def test_expectile_loss_golden() -> None:
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    target_q = torch.tensor([[1.5, 1.0]], requires_grad=True)
    loss = expectile_loss_sum(values, target_q, ALL, tau=0.7)
    # u = 0.5: 0.7 · 0.25 = 0.175;  u = −1: 0.3 · 1
    assert loss.item() == pytest.approx(0.475, abs=1e-6)
    loss.backward()
    # −2 w u: −2·0.7·0.5 and −2·0.3·(−1); the targets learn nothing
    assert values.grad is not None and values.grad.tolist()[0] == pytest.approx([-0.7, 0.6], abs=1e-6)
    assert target_q.grad is None


def test_the_expectile_of_0_and_1_is_where_the_loss_is_least() -> None:
    # τ (1 − v) = (1 − τ) v  ⇒  v = τ
    target_q = torch.tensor([[0.0, 1.0]])
    for tau in (0.5, 0.7, 0.9):
        v = torch.tensor(tau, requires_grad=True)
        expectile_loss_sum(v.expand(1, 2), target_q, ALL, tau).backward()
        assert v.grad is not None and abs(v.grad.item()) < 1e-6


def test_token_loss_golden() -> None:
    scores = torch.tensor([[[math.log(2.0), 0.0, 0.0], [0.0, math.log(8.0), 0.0]]])
    tokens = torch.tensor([[0, 2]])
    # softmax: 2/4 and 1/10
    assert token_loss_sum(scores, tokens, ALL).item() == pytest.approx(math.log(2) + math.log(10), abs=1e-6)
    weights = torch.tensor([[2.0, 0.25]])
    expected = 2 * math.log(2) + 0.25 * math.log(10)
    assert token_loss_sum(scores, tokens, ALL, weights).item() == pytest.approx(expected, abs=1e-6)
    assert token_loss_sum(scores, tokens, torch.tensor([[False, True]])).item() == pytest.approx(math.log(10), abs=1e-6)


def test_awac_weights_golden() -> None:
    weights = awac_weights(torch.tensor([[1.5, 1.0]]), torch.tensor([[1.0, 2.0]]), beta=math.log(4.0))
    assert weights.tolist()[0] == pytest.approx([2.0, 0.25], abs=1e-6)  # 4^½, 4^−1


def test_steered_logits_golden() -> None:
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]])
    target_qs = [torch.tensor([[5.0, 1.0]]), torch.tensor([[3.0, 2.0]])]
    steered = steered_logits(logits, target_qs, torch.tensor([[2.0]]), beta=0.5)
    # log ¼ + ½ (min(5, 3) − 2),  log ¾ + ½ (min(1, 2) − 2)
    assert steered.tolist()[0] == pytest.approx([math.log(0.25) + 0.5, math.log(0.75) - 0.5], abs=1e-6)
    assert steered_logits(logits, target_qs[:1], torch.tensor([[2.0]]), 0.5)[0, 0].item() == pytest.approx(
        math.log(0.25) + 1.5, abs=1e-6
    )


def test_polyak_golden() -> None:
    target, source = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 2.0], requires_grad=True)
    polyak_([target], [source], alpha=0.25)
    assert target.tolist() == [1.25, -1.0]  # ¼·2 + ¾·1, ¼·2 − ¾·2
    polyak_([target], [source], alpha=0.25)
    assert target.tolist() == [1.4375, -0.25]  # ½ + 15/16, ½ − ¾
    assert not target.requires_grad


def test_reading_by_index() -> None:
    values = torch.arange(12.0).view(1, 4, 3)
    assert at_positions(values, torch.tensor([[3, 0, 3]])).tolist() == [[[9, 10, 11], [0, 1, 2], [9, 10, 11]]]
    assert of_tokens(values, torch.tensor([[0, 2, 1, 1]])).tolist() == [[0.0, 5.0, 7.0, 10.0]]


# One dialogue of two turns (token 0 said to the model, then 1 said by it, then 0 and 2), and a row of nothing but pads.
BATCH = ILQLBatch(
    input_ids=torch.tensor([[0, 1, 0, 2], [0, 0, 0, 0]]),
    attention_mask=torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]),
    rewards=torch.tensor([[0.5, -1.0], [9.0, 9.0]]),
    states_ixs=torch.tensor([[0, 2, 3], [0, 0, 0]]),
    actions_ixs=torch.tensor([[0, 2], [0, 0]]),
    dones=torch.tensor([[1, 1, 0], [0, 0, 0]]),
)


def method(**changes: object) -> ILQLConfig:
    settings = {"tau": 0.7, "gamma": 0.5, "cql_scale": 0.1, "awac_scale": 2.0, "alpha": 0.1, "beta": math.log(4.0)}
    settings |= {"steps_for_target_q_sync": 5, "two_qs": True, "gen_kwargs": {}, **changes}
    return ILQLConfig(name="ILQLConfig", **settings)  # type: ignore[arg-type]


def outputs() -> tuple[torch.Tensor, tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]]:
    """Invented outputs for BATCH; what belongs to pads is not a number."""
    pads = torch.full((1, 2, 3), NAN)
    qs = [[[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]], [[0.0, 1.0, 0.0], [1.0, 1.0, 5.0]]]
    targets = [[[0.0, 1.5, 0.0], [0.0, 0.0, 2.0]], [[0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]]
    logits = torch.zeros(2, 4, 3)
    logits[0, 1], logits[0, 3] = torch.tensor([50.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 50.0])  # predict no action
    vs = torch.tensor([[[1.0], [2.0], [7.0]], [[NAN], [NAN], [NAN]]])
    heads = [[torch.cat([torch.tensor([head]), pads]).requires_grad_() for head in group] for group in (qs, targets)]
    return logits, (heads[0], heads[1], vs.requires_grad_())


def test_the_whole_loss_golden() -> None:
    given = outputs()
    loss, stats = method().loss(given, BATCH)
    # Targets: 0.5 + ½·2 = 1.5 and −1 (the end's V = 7 does not count). Q of the actions 1 and 2: 2, 3 and 1, 5:
    #   (0.25 + 16 + 0.25 + 36) / 2
    assert stats["losses/loss_q"].item() == pytest.approx(26.25, abs=1e-5)
    # smaller targets 1.5 and 1 against V 1 and 2: (0.7 · 0.25 + 0.3 · 1) / 2
    assert stats["losses/loss_v"].item() == pytest.approx(0.2375, abs=1e-6)
    # −log softmax of Q: 0.40761, 0.09492 and 0.55144, 0.03598
    assert stats["losses/loss_cql"].item() == pytest.approx(1.08995 / 2, abs=1e-5)
    # uniform logits, weights 4^0.5 and 4^−1
    assert stats["losses/loss_awac"].item() == pytest.approx(2.25 * math.log(3) / 2, abs=1e-6)
    assert loss.item() == pytest.approx(26.25 + 0.2375 + 0.1 * 0.544975 + 2 * 1.125 * math.log(3), abs=1e-4)
    assert stats["losses/loss"].item() == loss.item()
    spreads = {name: value.item() for name, value in stats.items() if not name.startswith("losses/")}
    expected = {"values": (1.5, 1, 2, 0.5), "awac_weight": (1.125, 0.25, 2, 0.875)}
    expected |= {"qvalues/0": (2.5, 2, 3, 0.5), "qvalues/1": (3, 1, 5, 2)}
    assert spreads == pytest.approx(
        {
            f"{g}/{key}": v
            for g, row in expected.items()
            for key, v in zip(("mean", "min", "max", "std"), row, strict=True)
        }
    )


def test_pads_and_targets_give_no_gradient() -> None:
    given = outputs()
    method().loss(given, BATCH)[0].backward()
    _, (qs, target_qs, vs) = given
    for leaf in (*qs, vs):
        assert leaf.grad is not None and leaf.grad[0].abs().sum() > 0 and leaf.grad[1].eq(0).all()
    assert vs.grad is not None and vs.grad[0, 2].item() == 0.0  # the end's value learns nothing
    assert all(target.grad is None for target in target_qs)


def test_one_q_head() -> None:
    logits, (qs, targets, vs) = outputs()
    _, stats = method(two_qs=False).loss((logits, (qs[:1], targets[:1], vs)), BATCH)
    assert stats["losses/loss_q"].item() == pytest.approx(16.25 / 2) and "qvalues/1/mean" not in stats
    # its targets 1.5 and 2 alone: 0.7 · 0.25 / 2
    assert stats["losses/loss_v"].item() == pytest.approx(0.0875, abs=1e-6)


def test_a_batch_without_actions() -> None:
    logits, (qs, targets, vs) = outputs()
    row = (logits[1:], ([q[1:] for q in qs], [t[1:] for t in targets], vs[1:]))
    loss, _ = method().loss(row, ILQLBatch(*[value[1:] for value in vars(BATCH).values()]))
    assert loss.item() == 0.0


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**31))
def test_the_loss_of_a_batch_is_the_mean_of_its_rows_by_actions(rows: int, actions: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, actions + 1, (rows, 1), generator=generator)
    steps = torch.arange(actions + 1)
    batch = ILQLBatch(
        input_ids=torch.randint(0, 6, (rows, actions + 1), generator=generator),
        attention_mask=(steps <= lengths).long(),
        rewards=noise(rows, actions),
        states_ixs=steps.minimum(lengths),
        actions_ixs=steps[:-1].minimum(lengths - 1),
        dones=(steps < lengths).long(),
    )
    q = [noise(rows, actions, 6) for _ in range(4)]
    logits, vs = noise(rows, actions + 1, 6), noise(rows, actions + 1, 1)

    def loss(index: slice) -> float:
        part = ILQLBatch(*[value[index] for value in vars(batch).values()])
        heads = ([each[index] for each in q[:2]], [each[index] for each in q[2:]], vs[index])
        return method().loss((logits[index], heads), part)[0].item()

    shares = [loss(slice(i, i + 1)) * lengths[i].item() for i in range(rows)]
    assert loss(slice(None)) == pytest.approx(sum(shares) / lengths.sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 1.5}, r"method\.tau is 1.5: it must be between 0 and 1"),
        ({"alpha": -0.1}, r"method\.alpha is -0.1"),
        ({"steps_for_target_q_sync": 0}, r"method\.steps_for_target_q_sync is 0: it must be at least 1"),
    ],
)
def test_settings_out_of_range(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        method(**changes)
