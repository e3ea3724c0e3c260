"""The KL penalty's coefficient: worked by hand, once a phase with every rank's samples; and the limit on a phase."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_engine import ppo_config
from tiny_runs import logged, make_trainer, run, run_until, weights

from trlx.data.kl_controllers import AdaptiveKLController, FixedKLController, make_kl_controller


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.6, 0.1 * (1 + 0.1 * 128 / 10000)),  # a tenth above the target
        (5.4, 0.1 * (1 - 0.1 * 128 / 10000)),
        (60.0, 0.1 * (1 + 0.2 * 128 / 10000)),  # no more than a fifth
        (-3.0, 0.1 * (1 - 0.2 * 128 / 10000)),
        (6.0, 0.1),
    ],
)
def test_adaptive(kl: float, expected: float) -> None:
    controller = AdaptiveKLController(0.1, target=6.0, horizon=10000)
    controller.update(kl, n_steps=128)
    assert controller.value == pytest.approx(expected, rel=1e-12)


def test_fixed() -> None:
    controller = make_kl_controller(0.3, None, 10)
    assert isinstance(controller, FixedKLController)
    controller.update(100.0, n_steps=128)
    assert controller.value == 0.3
    assert isinstance(make_kl_controller(0.3, 1.0, 10), AdaptiveKLController)


def test_the_controller_acts_once_a_phase_with_all_its_samples(tmp_path: Path, tokenizer_folder: str) -> None:
    overrides: dict[str, Any] = {"train__epochs": 3, "method__ppo_epochs": 3, "method__init_kl_coef": 0.05}
    config = ppo_config(tmp_path, tokenizer_folder, method__target=6.0, method__horizon=100, **overrides)
    trainer = run(config)
    values, kls = logged(trainer, "kl_ctl_value"), logged(trainer, "policy/kl")
    # The KL stays far below 6, so the error is −0.2 each time: 16 responses of a horizon of 100.
    assert max(kls) < 4.8
    assert values == pytest.approx([0.05, 0.05 * 0.968, 0.05 * 0.968**2], rel=1e-9)
    assert trainer.kl_ctl.value == values[-1]  # the run ends with the last phase's last step
    assert trainer.mean_kl == pytest.approx(kls[-1])


def test_the_kl_that_is_reported_is_that_of_the_responses(tmp_path: Path, tokenizer_folder: str) -> None:
    trainer = make_trainer(ppo_config(tmp_path, tokenizer_folder, model__num_layers_unfrozen=2))
    with torch.no_grad():
        for parameter in trainer.unwrapped_model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn_like(parameter)
    trainer.iter_count = 1  # so that a KL at the start is not an error
    trainer.make_experience(16)
    rows = list(trainer.store)
    each = [(row.logprobs - row.ref_logprobs).sum().item() for row in rows]
    assert max(map(abs, each)) > 1e-2
    assert trainer.mean_kl == pytest.approx(sum(each) / 16, rel=1e-4, abs=1e-6)
    tokens = sum(len(row.response_tensor) for row in rows)
    assert logged(trainer, "policy/kl_per_token")[-1] == pytest.approx(sum(each) / tokens, rel=1e-4, abs=1e-6)
    # −β·k1 a token, and the score on the last
    for row in rows:
        penalty = -0.001 * (row.logprobs - row.ref_logprobs)
        torch.testing.assert_close(row.rewards[:-1], penalty[:-1])


def test_target_kl_ends_a_phase_and_so_does_a_resumed_run(tmp_path: Path, tokenizer_folder: str) -> None:
    def config(name: str, **more: Any) -> Any:
        given = {"train__epochs": 3, "method__ppo_epochs": 4, "train__resume_interval": 1, "method__target_kl": 1e-9}
        return ppo_config(tmp_path / name, tokenizer_folder, **{**given, **more})

    # Two steps a pass. The first step of a phase has ratio 1, so 0 > 1e-9 is false; the second one ends the phase.
    whole = run(config("whole"))
    assert whole.iter_count == 6
    assert [value > 1e-9 for value in logged(whole, "policy/approx_kl")] == [False, True] * 3
    assert logged(whole, "rollout/phase") == [0, 1, 2]
    run_until(5, config("cut"))  # in the second phase: one evaluation, two chunks a phase
    resumed = run(config("cut", train__resume_from_checkpoint="auto"))
    assert resumed.iter_count == 6
    assert logged(resumed, "rollout/phase") == [0, 1, 2]
    for name, value in weights(whole).items():
        assert torch.equal(weights(resumed)[name], value), name
    unlimited = run(config("unlimited", method__target_kl=None))
    assert unlimited.iter_count == 24
