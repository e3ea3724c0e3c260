"""The states that decoding keeps are those of a full pass, so that training may start from them."""

import pytest
import torch
from tiny_engine import EOS, random_model

from trlx.functional.masking import position_ids
from trlx.generation.sampling import generate
from trlx.models.branches import Trunk


@pytest.mark.parametrize("family", ["gpt_neo", "llama"])
@pytest.mark.parametrize("slice_tokens", [8, 1000])  # prompts read in several slices, or at once
def test_kept_states_are_those_of_a_full_pass(family: str, slice_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trlx.generation.decoding.SLICE_TOKENS", slice_tokens)
    torch.manual_seed(3)
    model = random_model(family)
    trunk = Trunk(model, 2)
    ids = torch.randint(1, 257, (6, 7))
    mask = (torch.arange(7) >= torch.arange(6).unsqueeze(1) % 4).long()
    ends = list(range(0, 257, 8))  # so that some rows end early, and leave
    options = {"max_new_tokens": 9, "do_sample": True, "eos_token_id": ends}
    made = generate(model, ids * mask, mask, options, EOS, EOS, keep_output_of=trunk.top)
    lengths = made.response_mask.sum(dim=1)
    assert lengths.min() < lengths.max(), "rows of one length show nothing"

    whole_mask = torch.cat([mask, made.response_mask.long()], dim=1)
    with torch.no_grad(), trunk.keeping() as kept:
        model(
            input_ids=torch.cat([ids * mask, made.response], dim=1),
            attention_mask=whole_mask,
            position_ids=position_ids(whole_mask),
        )
    assert made.states is not None and made.states.shape == kept[0].shape
    fed = whole_mask.bool().clone()
    fed[torch.arange(6), 7 + lengths - 1] = False  # nobody needs the state of a row's last token
    torch.testing.assert_close(made.states[fed], kept[0][fed], atol=2e-5, rtol=2e-5)
