"""All checks: on their own (`check`), and the quick ones that go before a training job (`preflight`).

A check that cannot be made is a finding too. Left out: wiring, which is the stages'.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from functools import partial

import torch

from evaluation.devices import existing_device
from evaluation.policies import release_memory
from launch.doctor import policy, reward
from launch.doctor.devices import bandwidth_findings, device_findings
from launch.doctor.finding import Finding, ok
from launch.doctor.options import DoctorOptions, Models, check_options, is_reward_model, models_of
from launch.doctor.surroundings import deepspeed_findings, disk_findings, hub_findings
from launch.doctor.tokenizers import tokenizer_findings
from launch.doctor.versions import range_findings, version_findings
from tasks.run_folder import REPO
from trlx.utils.errors import UserError

Check = Callable[[], list[Finding]]
SWITCH = "--preflight false"  # how a stage's options leave it out


def check(options: DoctorOptions) -> list[Finding]:
    """Everything that is not left out by `skip`, in a fixed order; models are loaded one after the other.

    Raises: UserError for options that cannot be meant. What is wrong with the machine or the models is a finding.
    """
    check_options(options)
    models = models_of(options)
    start = next(iter(models.policies.values()), None)
    groups: dict[str, Check] = {
        "versions": version_findings,
        "devices": device_findings,
        "bandwidth": bandwidth_findings,
        "disk": lambda: disk_findings(options.root, start),
        "hub": hub_findings,
        "deepspeed": deepspeed_findings,
        "tokenizers": lambda: tokenizer_findings(models) or [_no_models(options)],
    }
    findings = [one for name, act in groups.items() if name not in options.skip for one in _made(name, act)]
    if "models" not in options.skip:
        device = _device(options.device)
        findings += _models(models, options.num_layers_unfrozen, options.temperature, device)
    return findings


def preflight(
    start: str,
    reward_models: Sequence[str] = (),
    *,
    reward_label: str | None = None,
    num_layers_unfrozen: int = 2,
    temperature: float = 1.0,
    device: str | None = None,
) -> list[Finding]:
    """What would make a training job worthless from its first step, in a second or two beyond loading the models.

    Versions against their ranges, tokenizers and EOS, padding invariance; ratio and KL of a policy, position of a
    reward model's score. One process only: the main rank's.

    Args:
        start: folder or hub id of the model that is trained, a language model or a reward model.
        reward_models: that PPO trains against. reward_label: of those that are text classifiers.
        num_layers_unfrozen, temperature: of PPO. device: where the models are tried; None for the first GPU or the CPU.

    Raises: UserError for a device that is not here.
    """
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    findings = range_findings(project)
    judges = {f"reward model {path}": path for path in reward_models}
    try:
        scored = is_reward_model(start)
    except UserError as error:
        return [*findings, Finding("fail", "model", str(error))]
    policies, judges = ({}, {"model": start} | judges) if scored else ({"model": start}, judges)
    models = Models(policies, judges, reward_label)
    findings += tokenizer_findings(models)
    return findings + _models(models, num_layers_unfrozen, temperature, _device(device))


def require_healthy(findings: Sequence[Finding], say: Callable[[str], object]) -> None:
    """Say every warning aloud and stop at a failure.

    Args:
        findings: of `preflight`. say: called with a line for each warning, e.g. `Stage.say`.

    Raises: UserError naming the first failure and its remedy, and how to go on all the same.
    """
    for finding in findings:
        if finding.status == "warn":
            say(str(finding))
    failed = [finding for finding in findings if finding.status == "fail"]
    if failed:
        more = f" (and {len(failed) - 1} more: `python -m launch doctor` lists them)" if len(failed) > 1 else ""
        one = failed[0]
        remedy = f"; {one.remedy}" if one.remedy else ""
        raise UserError(f"before training: {one.name}: {one.seen}{remedy}{more}; {SWITCH} leaves this out")


def _models(models: Models, num_layers_unfrozen: int, temperature: float, device: torch.device) -> list[Finding]:
    """Of the policy that training starts from, and of every reward model; loaded one after the other."""
    findings: list[Finding] = []
    for role, path in list(models.policies.items())[:1]:
        act: Check = partial(policy.load_and_examine, role, path, num_layers_unfrozen, temperature, device)
        findings += _made(f"model, {role}", act)
        release_memory()
    for role, path in models.reward_models.items():
        findings += _made(f"model, {role}", partial(reward.load_and_examine, role, path, device, models.reward_label))
        release_memory()
    return findings


def _made(name: str, act: Check) -> list[Finding]:
    """The findings, or a failure where the check cannot be made: the others go on."""
    try:
        return act()
    except UserError as error:
        return [Finding("fail", name, str(error))]
    except (RuntimeError, OSError, ValueError) as error:  # of a driver, the system, or a model's own code
        return [Finding("fail", name, f"{type(error).__name__}: {error}"[:300], "mend this first, then look again")]


def _no_models(options: DoctorOptions) -> Finding:
    return ok("models", f"none found below {options.root}: name some with --policy and --reward_model")


def _device(given: str | None) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return existing_device(given or ("cuda:0" if gpus else "cpu"), gpus)
