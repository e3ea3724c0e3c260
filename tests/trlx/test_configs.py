"""Configurations: YAML, overrides that never touch the original, and errors that name the key."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from trlx.data.configs import TRLConfig
from trlx.data.default_configs import PPOConfig, default_ppo_config
from trlx.data.method_configs import MethodConfig, get_method, register_method
from trlx.utils.errors import UserError


def yaml_file(folder: Path, **sections: Any) -> Path:
    values = json.loads(json.dumps(default_ppo_config().to_dict()))
    for name, changes in sections.items():
        values[name] |= changes
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_yaml_file_is_read_back(tmp_path: Path) -> None:
    config = TRLConfig.load_yaml(yaml_file(tmp_path, train={"seed": 3}))
    assert config.train.seed == 3
    assert isinstance(config.method, PPOConfig) and config.method.cliprange == 0.2
    assert config.method.gen_kwargs["max_new_tokens"] == 40


def test_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    path = yaml_file(tmp_path)
    path.write_text(path.read_text().replace("init_kl_coef: 0.001", "init_kl_coef: 1e-3"))
    assert yaml.safe_load(path.read_text())["method"]["init_kl_coef"] == "1e-3"  # or this tests nothing
    assert TRLConfig.load_yaml(path).method.init_kl_coef == 0.001  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_siez": 4}, r"unknown key 'train.batch_siez'; did you mean 'batch_size'\?"),
        ({"trian.batch_size": 4}, r"unknown key 'trian'; did you mean 'train'\?"),
        ({"seed": 3}, r"unknown key 'seed'"),
        ({"method.kliprange": 0.1}, r"unknown key 'method.kliprange'; did you mean 'cliprange'\?"),
        ({"train": {"batch_siez": 4}}, r"unknown key 'train.batch_siez'"),
        ({"train.seed.deep": 4}, r"unknown key 'train.seed.deep'"),
        ({"train.batch_size": "many"}, r"'train.batch_size' must be a whole number, not 'many'"),
        ({"train": 4}, r"'train' must be a section of keys, not 4"),
        ({"method.gen_kwargs": 4}, r"'method.gen_kwargs' must be a section, not 4"),
        ({"method.name": "PPOConfg"}, r"unknown method 'PPOConfg'; did you mean 'ppoconfig'\?"),
    ],
)
def test_wrong_overrides_name_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        TRLConfig.update(default_ppo_config(), changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("train", "sed", r"config.yaml, line \d+: unknown key 'train.sed'; did you mean 'seed'\?"),
        ("model", "num_layers_frozen", r"unknown key 'model.num_layers_frozen'; did you mean 'num_layers_unfrozen'\?"),
        ("method", "gama", r"unknown key 'method.gama'; did you mean 'gamma'\?"),
    ],
)
def test_wrong_yaml_names_file_and_key(tmp_path: Path, section: str, key: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TRLConfig.load_yaml(yaml_file(tmp_path, **{section: {key: 1}}))


def test_yaml_that_cannot_be_used_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml: no such file"):
        TRLConfig.load_yaml(tmp_path / "nowhere.yaml")
    for text, message in (("a: [", r"bad.yaml, line \d: "), ("", "is empty"), ("- 1", "holds a list")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            TRLConfig.load_yaml(tmp_path / "bad.yaml")


def test_missing_sections_and_names() -> None:
    values = default_ppo_config().to_dict()
    del values["optimizer"]
    with pytest.raises(UserError, match="missing key 'optimizer'"):
        TRLConfig.from_dict(values)
    values = default_ppo_config().to_dict()
    del values["method"]["name"]
    with pytest.raises(UserError, match=r"missing key 'method.name'"):
        TRLConfig.from_dict(values)


def test_nothing_is_changed_in_place() -> None:
    base = default_ppo_config()
    before = copy.deepcopy(base.to_dict())
    changes: dict[str, Any] = {"optimizer": {"kwargs": {"lr": 1.0}}, "method.gen_kwargs": {"temperature": 0.5}}
    unchanged = copy.deepcopy(changes)
    new = TRLConfig.update(base, changes)
    new.optimizer.kwargs["lr"] = 7.0
    new.method.gen_kwargs["temperature"] = 9.0  # type: ignore[attr-defined]
    new.train.tags.append("x")
    base.evolve(train={"seed": 1}).train.tags.append("y")
    assert base.to_dict() == before and changes == unchanged


def test_update_takes_a_dict_and_leaves_it_alone() -> None:
    base = default_ppo_config().to_dict()
    before = copy.deepcopy(base)
    assert TRLConfig.update(base, {"train.seed": 5}).train.seed == 5
    assert base == before


def test_dotted_and_nested_overrides_together() -> None:
    new = TRLConfig.update(
        default_ppo_config(),
        {"train.seed": 1, "train": {"epochs": 2}, "optimizer.kwargs.lr": 0.5, "method.target": 6},
    )
    assert (new.train.seed, new.train.epochs, new.optimizer.kwargs["lr"]) == (1, 2, 0.5)
    assert new.optimizer.kwargs["weight_decay"] == 1e-6  # what was not named stays
    assert new.method.target == 6.0  # type: ignore[attr-defined]


def test_open_dicts_take_new_keys_and_absent_ones_become_dicts() -> None:
    new = TRLConfig.update(default_ppo_config(), {
        "method.gen_kwargs.temperature": 0.7,
        "method.gen_experience_kwargs.top_k": 5,
        "model.model_extra_configs": {"revision": "main"},
        "train.trainer_kwargs.train_mode": True,
    })  # fmt: skip
    assert new.method.gen_kwargs["temperature"] == 0.7  # type: ignore[attr-defined]
    assert new.method.gen_kwargs["max_new_tokens"] == 40  # type: ignore[attr-defined]
    assert new.method.gen_experience_kwargs == {"top_k": 5}  # type: ignore[attr-defined]
    assert new.model.model_extra_configs == {"revision": "main"}
    evolved = default_ppo_config().evolve(model={"peft_config": {"r": 8}}, method={"gen_experience_kwargs": {"k": 1}})
    assert evolved.model.peft_config == {"r": 8}


def test_to_dict_round_trip_and_copies() -> None:
    config = default_ppo_config()
    values = config.to_dict()
    assert TRLConfig.from_dict(values).to_dict() == values
    values["train"]["seed"] = -1
    values["method"]["gen_kwargs"].clear()
    assert config.to_dict() == default_ppo_config().to_dict()


def test_every_default_is_a_new_object() -> None:
    default_ppo_config().method.gen_kwargs["x"] = 1  # type: ignore[attr-defined]
    assert "x" not in default_ppo_config().method.gen_kwargs  # type: ignore[attr-defined]


def test_methods_register_by_name() -> None:
    @register_method("EngineTestMethod")
    class Method(MethodConfig):
        pass

    assert get_method("ENGINEtestmethod") is Method
    assert get_method("ppoconfig") is PPOConfig
