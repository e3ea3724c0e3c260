"""Whatever a configuration holds, it is taken or refused in one line; nothing else ever comes out.

Random text, random nested settings and the repository's own files with something changed go through the command line of
every script and through `TRLConfig`.
"""

import contextlib
import copy
import io
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reward_model.train_reward_model_gptneo import RewardOptions
from sft.train_gptneo_summarize import SftOptions
from tasks.run_folder import REPO, fill_places
from trlx.data.configs import TRLConfig
from trlx.data.default_configs import default_ilql_config, default_ppo_config, default_sft_config
from trlx.data.limits import require_limits
from trlx.utils.cli import parse_config
from trlx.utils.errors import UserError
from trlx_gptneo_text_summarization import PPOOptions
from trlx_inference_gptneo import InferenceOptions

SCRIPTS: dict[str, type[Any]] = {
    "sft": SftOptions,
    "reward_model": RewardOptions,
    "ppo": PPOOptions,
    "inference": InferenceOptions,
}
CONFIGS = sorted(path for path in (REPO / "configs").rglob("*.yaml") if path.stem in SCRIPTS)
COMPLETE = [make().to_dict() for make in (default_ppo_config, default_ilql_config, default_sft_config)]

fuzz = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
any_text = st.text(st.characters(codec=None), max_size=12)
odd_numbers = st.sampled_from([0, -1, 10**30, 1e308, float("inf"), float("nan"), True, False])
odd_texts = st.sampled_from(
    ["", "null", "1e-5", "nan", "{root}/x", "~", "yes", "-", "--", "a: b", "\0", "\ud800", "📎"]
)
scalars = st.none() | odd_numbers | odd_texts | st.integers() | st.floats() | any_text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3))


def outcome(act: Callable[[], Any]) -> Any:
    """What `act` returns, or None for a refusal; a refusal is a UserError, or exit code 2 after one line of stderr."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return act()
    except UserError as error:
        assert len(str(error).splitlines()) == 1
    except SystemExit as ended:
        assert ended.code == 2
        assert said.getvalue().startswith("error: ") and len(said.getvalue().splitlines()) == 1
    return None


def parsed(name: str, content: bytes, *argv: str) -> Any:
    """Options of a script from a YAML file and a command line, used as the script does first; None when refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_bytes(content)
        options = outcome(lambda: parse_config(SCRIPTS[name], "", ["--config", str(path), *argv]))
    if options is not None:
        assert isinstance(options, SCRIPTS[name])
        outcome(lambda: fill_places(options, "run"))
        if isinstance(options, PPOOptions):
            outcome(lambda: require_limits(options.engine_config()))
    return options


def dumped(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", SCRIPTS)
@fuzz
@given(content=st.binary(max_size=60) | any_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff\xfe")
@example(b"a: &a [*a]")
@example(b"{" * 4000)
def test_any_bytes_as_a_file(name: str, content: bytes) -> None:
    parsed(name, content)


@pytest.mark.parametrize("name", SCRIPTS)
@fuzz
@given(data=st.data())
def test_any_values_under_real_keys(name: str, data: st.DataObject) -> None:
    fields = sorted(SCRIPTS[name].__dataclass_fields__)
    chosen = data.draw(st.dictionaries(st.sampled_from(fields), values, min_size=1, max_size=3))
    parsed(name, dumped(chosen))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(REPO / "configs").as_posix())
@settings(fuzz, max_examples=12)
@given(data=st.data())
def test_real_files_with_a_change(path: Path, data: st.DataObject) -> None:
    """A line lost, repeated or moved in, a character changed, or the end cut off."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    where = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["lose", "repeat", "indent", "swap", "cut"]))
    if change == "lose":
        del lines[where]
    elif change == "repeat":
        lines.insert(data.draw(st.integers(0, len(lines))), lines[where])
    elif change == "indent":
        lines[where] = data.draw(st.sampled_from(["  ", "\t", "- ", ": "])) + lines[where]
    text = "".join(lines)
    at = data.draw(st.integers(0, len(text) - 1))
    if change == "swap":
        text = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    parsed(path.stem, (text[:at] if change == "cut" else text).encode("utf-8"))


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key in nested dicts."""
    if not isinstance(value, dict):
        return []
    return [path for key, inner in value.items() for path in [(*above, key), *places(inner, (*above, key))]]


def changed(config: dict[str, Any], rng: random.Random, value: Any) -> dict[str, Any]:
    """A copy in which some keys are lost, renamed, or hold `value`."""
    config = copy.deepcopy(config)
    for path in rng.sample(places(config), k=rng.randint(1, 3)):
        section: Any = config
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and path[-1] in section:
            what = rng.choice(["lose", "rename", "set", "set"])
            old = section.pop(path[-1])
            if what == "rename":
                section[rng.choice([f"{path[-1]}s", path[-1][:-1], 3, None])] = old
            elif what == "set":
                section[path[-1]] = value
    return config


@settings(fuzz, max_examples=300)
@given(whole=st.sampled_from(COMPLETE), seed=st.integers(), value=values)
def test_trlconfig_from_changed_dicts(whole: dict[str, Any], seed: int, value: Any) -> None:
    config = changed(whole, random.Random(seed), value)
    made = outcome(lambda: TRLConfig.from_dict(config))
    assert made is None or isinstance(made, TRLConfig)
    if made is not None:
        outcome(lambda: require_limits(made))
        assert outcome(lambda: TRLConfig.from_dict(made.to_dict())) is not None
        json.dumps(made.to_dict(), default=str)


@fuzz
@given(config=values | st.dictionaries(st.sampled_from(sorted(COMPLETE[0])) | any_text, values))
def test_trlconfig_from_anything(config: Any) -> None:
    assert outcome(lambda: TRLConfig.from_dict(config)) is None


@fuzz
@given(
    whole=st.sampled_from(COMPLETE),
    changes=st.dictionaries(any_text | st.sampled_from(["train", "train.seed"]), values),
)
def test_trlconfig_updates(whole: dict[str, Any], changes: dict[str, Any]) -> None:
    outcome(lambda: TRLConfig.update(whole, changes))
    outcome(lambda: TRLConfig.from_dict(whole).evolve(**changes))


@fuzz
@given(whole=st.sampled_from(COMPLETE), seed=st.integers(), value=values)
def test_trlconfig_from_files(whole: dict[str, Any], seed: int, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_bytes(dumped(changed(whole, random.Random(seed), value)))
        outcome(lambda: TRLConfig.load_yaml(path))


@pytest.mark.parametrize("name", SCRIPTS)
@fuzz
@given(data=st.data())
def test_any_command_line(name: str, data: st.DataObject) -> None:
    sections = ["train", "train.seed", "method.gen_kwargs", "method.gen_kwargs.top_k", "optimizer.kwargs.lr", "model"]
    names = st.sampled_from([*sorted(SCRIPTS[name].__dataclass_fields__), *sections, "config", "local_rank"]) | any_text
    words = data.draw(st.lists(st.tuples(names, values.map(str) | any_text, st.booleans()), max_size=3))
    argv = [part for key, value, joined in words for part in ([f"--{key}={value}"] if joined else [f"--{key}", value])]
    if not any(part.startswith(("--help", "--print_config")) or part == "-h" for part in argv):
        outcome(lambda: parse_config(SCRIPTS[name], "", argv))
