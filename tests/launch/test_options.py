"""Every stage's options are understood by the parser, wherever in the class's bases they stand."""

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from evaluation.frontier_options import FrontierOptions
from evaluation.report.write import ReportOptions
from evaluation.seeds import SeedsOptions
from evaluation.show_samples import SamplesOptions
from evaluation.try_it import TryOptions
from reward_model.gate import GateOptions
from reward_model.train_reward_model_gptneo import RewardOptions
from reward_model.train_sentiment_classifier import ClassifierOptions
from sft.train_gptneo_summarize import SftOptions
from tasks.convert import ConvertOptions
from tasks.inspection.command import InspectOptions
from trlx.utils.cli import parse_config
from trlx_gptneo_rft_summarization import RFTOptions
from trlx_gptneo_text_summarization import PPOOptions
from trlx_inference_gptneo import InferenceOptions

STAGES = (SftOptions, RewardOptions, ClassifierOptions, PPOOptions, RFTOptions, InferenceOptions, FrontierOptions)
ALL = (*STAGES, GateOptions, ReportOptions, TryOptions, SeedsOptions, SamplesOptions, InspectOptions, ConvertOptions)


@pytest.mark.parametrize("options", ALL, ids=lambda cls: cls.__name__)
def test_no_option_goes_unchecked(options: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    parse = ArgumentParser.parse_args
    monkeypatch.setattr(ArgumentParser, "parse_args", lambda self, *args: seen.append(self) or parse(self, *args))
    parse_config(options, "Test.", [])
    unchecked = [action.dest for action in seen[0]._actions if "Unvalidated" in str(getattr(action, "_typehint", ""))]
    assert unchecked == []


@pytest.mark.parametrize("options", STAGES, ids=lambda cls: cls.__name__)
def test_columns_are_named_one_by_one(options: Any) -> None:
    parsed = parse_config(options, "Test.", ["--columns.summary", "tldr", "--columns.post=body.text"])
    assert parsed.columns == {"summary": "tldr", "post": "body.text"}
    assert parse_config(options, "Test.", ["--columns.split", ""]).columns == {"split": ""}
