"""Mistakes in models and tokenizers: missing, damaged, of another kind, or not made for each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from case import Case, Spoil
from harness import JUDGE, PPO, REWARD, SFT

from reward_model.verdict import GATE_FILE, Check, gate_content


def edited(folder: Path, name: str, **changes: object) -> None:
    """Change keys of a JSON file; None takes one out."""
    values = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def without(*parts: str) -> Spoil:
    """A folder of the root is gone."""

    def spoil(root: Path, work: Path) -> list[str]:
        shutil.rmtree(root.joinpath(*parts))
        return []

    return spoil


def no_eos(root: Path, work: Path) -> list[str]:
    edited(root / "base", "tokenizer_config.json", eos_token=None)
    return []


def no_eos_of_the_policy(root: Path, work: Path) -> list[str]:
    edited(root / "ckpts" / "sft", "tokenizer_config.json", eos_token=None)
    return []


def pad_is_eos(root: Path, work: Path) -> list[str]:
    config = json.loads((root / "ckpts" / "reward_model" / "config.json").read_text())
    edited(root / "ckpts" / "reward_model", "config.json", pad_token_id=config["eos_token_id"])
    return []


def three_labels(root: Path, work: Path) -> list[str]:
    names = {str(number): f"LABEL_{number}" for number in range(3)}
    ids = {name: int(number) for number, name in names.items()}
    edited(root / "ckpts" / "reward_model", "config.json", id2label=names, label2id=ids)
    return []


def a_label_it_has_not(root: Path, work: Path) -> list[str]:
    return [*three_labels(root, work), "--reward_label", "LABEL_3"]


def a_label_of_no_classifier(root: Path, work: Path) -> list[str]:
    return ["--reward_label", "POSITIVE"]


def larger_vocabulary(folder: str) -> Spoil:
    """The tokenizer knows a token for which the model has no embedding."""

    def spoil(root: Path, work: Path) -> list[str]:
        path = root / folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        size = len(tokenizer["model"]["vocab"])
        token = dict(id=size, content="<new>", single_word=False, lstrip=False, rstrip=False, normalized=False)
        tokenizer["added_tokens"].append({**token, "special": True})
        path.write_text(json.dumps(tokenizer))
        return []

    return spoil


def two_tokens_exchanged(root: Path, work: Path) -> list[str]:
    """Another tokenizer of the same size."""
    other = shutil.copytree(root / "base", work / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    return ["--tokenizer.tokenizer_path", str(other)]


def cut_short(folder: str) -> Spoil:
    """The weights end early, as a copy that was interrupted leaves them."""

    def spoil(root: Path, work: Path) -> list[str]:
        path = root / folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        return []

    return spoil


def no_json(root: Path, work: Path) -> list[str]:
    (root / "base" / "config.json").write_text('{\n  "vocab_size": \n}')
    return []


def no_weights(root: Path, work: Path) -> list[str]:
    (root / "base" / "model.safetensors").unlink()
    return []


def failed_gate(*options: str) -> Spoil:
    """The gate has judged the reward model, and found it no better than a coin."""

    def spoil(root: Path, work: Path) -> list[str]:
        folder = root / "ckpts" / "reward_model"
        check = Check("accuracy", "pairs ranked as the labels say", 0.5, 0.4, 0.6, 100, 0.6, ">=", "fail")
        (folder / GATE_FILE).write_text(json.dumps(gate_content(folder, [check])))
        return list(options)

    return spoil


def torn_gate(root: Path, work: Path) -> list[str]:
    (root / "ckpts" / "reward_model" / GATE_FILE).write_text('{"format": 1, "verdict"')
    return []


def judged_by_itself(root: Path, work: Path) -> list[str]:
    return ["--second_reward_model", f"{root}/ckpts/reward_model"]


def judged_by_a_copy(root: Path, work: Path) -> list[str]:
    shutil.copytree(root / "ckpts" / "reward_model", work / "copy")
    return ["--second_reward_model", f"{work}/copy"]


def half_an_ensemble(root: Path, work: Path) -> list[str]:
    return ["--reward_model", f"{root}/ckpts/reward_model,{work}/absent"]


EOS = ("no EOS token", "set eos_token in tokenizer_config.json")
PAD = ("reward_model", "pad token is EOS", "train it with a pad token of its own")
LABELS = ("reward_model", "a classifier of LABEL_0, LABEL_1, LABEL_2", "say with --reward_label")
OTHER_IDS = ("its tokenizer has ids up to 320 but the model embeds only 320", "take both from one folder")
SFT_MAKES_IT = ("ckpts/sft", "`deepspeed sft/train_gptneo_summarize.py`", "--root")
FAILED = ("ckpts/reward_model failed its gate", "--accept-failing-reward-model")
REWARD_MAKES_IT = ("ckpts/reward_model", "`deepspeed reward_model/train_reward_model_gptneo.py`", "--root")

CASES = [
    Case("tokenizer-without-eos", SFT, no_eos, ("base", *EOS)),
    Case("tokenizer-without-eos-of-pairs", REWARD, no_eos, ("base", *EOS)),
    Case("tokenizer-without-eos-of-ppo", PPO, no_eos_of_the_policy, ("ckpts/sft", *EOS)),
    Case("tokenizer-without-eos-of-the-evaluation", JUDGE, no_eos_of_the_policy, ("ckpts/sft", *EOS)),
    Case("pad-is-eos", PPO, pad_is_eos, PAD),
    Case("pad-is-eos-of-the-evaluation", JUDGE, pad_is_eos, PAD),
    Case("several-labels", PPO, three_labels, LABELS),
    Case("several-labels-of-the-evaluation", JUDGE, three_labels, LABELS),
    Case("unknown-label", PPO, a_label_it_has_not, ("reward_model", "no label 'LABEL_3'", "with --reward_label")),
    Case("unknown-label-of-the-evaluation", JUDGE, a_label_it_has_not, ("no label 'LABEL_3'", "with --reward_label")),
    Case("label-of-no-classifier", PPO, a_label_of_no_classifier, ("--reward_label POSITIVE", "leave it out")),
    Case("vocabularies-differ", SFT, larger_vocabulary("base"), ("base", *OTHER_IDS)),
    Case("vocabularies-differ-of-pairs", REWARD, larger_vocabulary("base"), ("base", *OTHER_IDS)),
    Case("vocabularies-differ-of-ppo", PPO, larger_vocabulary("ckpts/sft"), ("ckpts/sft", *OTHER_IDS)),
    Case("vocabularies-differ-of-the-evaluation", JUDGE, larger_vocabulary("ckpts/sft"), ("ckpts/sft", *OTHER_IDS)),
    Case("tokenizer-of-another-model", PPO, two_tokens_exchanged, ("2 of 320 tokens", "take both from one folder")),
    Case("missing-checkpoint", PPO, without("ckpts", "sft"), SFT_MAKES_IT),
    Case("missing-reward-model", PPO, without("ckpts", "reward_model"), REWARD_MAKES_IT),
    Case("missing-checkpoint-of-the-evaluation", JUDGE, without("ckpts", "sft"), SFT_MAKES_IT),
    Case(
        "missing-policy-of-the-evaluation",
        JUDGE,
        without("ckpts", "best_checkpoint"),
        ("ckpts/best_checkpoint/hf_model", "trlx_gptneo_text_summarization.py", "--root"),
    ),
    Case(
        "missing-checkpoint-of-pairs",
        REWARD,
        lambda root, work: [*without("ckpts", "sft")(root, work), "--model", "{root}/ckpts/sft"],
        SFT_MAKES_IT,
    ),
    Case("failed-gate", PPO, failed_gate(), FAILED),
    Case("failed-gate-with-a-switch-off", PPO, failed_gate("--accept-failing-reward-model=false"), FAILED),
    Case("torn-gate", PPO, torn_gate, ("reward_model/gate.json", "reward_model.gate")),
    Case("second-reward-model-is-the-first", PPO, judged_by_itself, ("is trained against", "--reward_model")),
    Case("second-reward-model-is-a-copy", PPO, judged_by_a_copy, ("is trained against", "--reward_model")),
    Case("missing-member-of-an-ensemble", PPO, half_an_ensemble, ("/absent", "--reward_model names it")),
    Case(
        "missing-second-reward-model",
        PPO,
        lambda root, work: ["--monitor", "second_reward_model"],
        ("ckpts/second_reward_model", "--out {root}/ckpts/second_reward_model", "--second_reward_model"),
    ),
    Case("missing-base", SFT, without("base"), ("/base", "`python -m tasks.scratch_model`", "--model")),
    Case("missing-critic", PPO, lambda root, work: ["--model.critic_path", f"{work}/no"], ("no", "model.critic_path")),
    Case("torn-weights", SFT, cut_short("base"), ("base/model.safetensors", "damaged or cut short")),
    Case("torn-weights-of-ppo", PPO, cut_short("ckpts/sft"), ("ckpts/sft/model.safetensors", "damaged")),
    Case(
        "torn-weights-of-the-evaluation",
        JUDGE,
        cut_short("ckpts/best_checkpoint/hf_model"),
        ("hf_model/model.safetensors", "damaged or cut short"),
    ),
    Case("torn-config", SFT, no_json, ("base/config.json, line 3", "not JSON")),
    Case("no-weights", REWARD, no_weights, ("base", "model.safetensors")),
]
