"""Policy, value head and reference as one module: exact against plain forwards, for several families of models."""

import pytest
import torch
from tiny_engine import EOS, FAMILIES, LAYERS, ragged_rows, random_model

from trlx.functional.logprobs import entropy, logprobs_of_tokens
from trlx.generation.sampling import generate
from trlx.models.branches import find_blocks, freeze_bottom, modules_before_blocks
from trlx.models.policy import CausalLMPolicy
from trlx.utils.errors import UserError

R = 5
DEPTHS = (-1, 0, 1, LAYERS)
cases = pytest.mark.parametrize(("family", "unfrozen"), [("opt", 1), *((f, n) for f in FAMILIES for n in DEPTHS)])


def ones_where_real(mask: torch.Tensor) -> torch.Tensor:
    return mask[:, -R:].bool()


def assert_close_at(mask: torch.Tensor, got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    real = ones_where_real(mask)
    assert (got - expected)[real].abs().max().item() <= tolerance


def update(policy: CausalLMPolicy, ids: torch.Tensor, mask: torch.Tensor, steps: int = 3, lr: float = 0.1) -> None:
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        out = policy(ids, mask, R)
        loss = (out["logprobs"] * ones_where_real(mask)).sum() + out["values"].square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@cases
def test_the_reference_is_the_initial_policy_and_stays_it(family: str, unfrozen: int) -> None:
    policy = CausalLMPolicy(random_model(family), unfrozen).eval()
    ids, mask = ragged_rows()
    with torch.no_grad():
        before = policy(ids, mask, R, temperature=0.7, with_reference=True)
        assert_close_at(mask, before["ref_logprobs"], before["logprobs"], 1e-6)
    frozen = {n: p.detach().clone() for n, p in policy.named_parameters() if not p.requires_grad}
    trained = {n: p.detach().clone() for n, p in policy.named_parameters() if p.requires_grad}
    update(policy, ids, mask)
    with torch.no_grad():
        after = policy(ids, mask, R, temperature=0.7, with_reference=True)
    assert_close_at(mask, after["ref_logprobs"], before["ref_logprobs"], 1e-6)
    now = dict(policy.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert any(not torch.equal(now[name], value) for name, value in trained.items())
    if unfrozen != 0:  # or nothing above the trunk would have been tested
        moved = (after["logprobs"] - before["logprobs"])[ones_where_real(mask)].abs().max().item()
        assert moved > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_what_trains(family: str) -> None:
    model = random_model(family)
    embeddings = {id(module) for module in modules_before_blocks(model, find_blocks(model))}
    assert id(model.get_input_embeddings()) in embeddings
    for unfrozen in DEPTHS:
        assert freeze_bottom(model, unfrozen) == {-1: 0, 0: LAYERS}.get(unfrozen, LAYERS - unfrozen)
        for index, block in enumerate(find_blocks(model)):
            trains = unfrozen < 0 or index >= LAYERS - unfrozen
            assert {p.requires_grad for p in block.parameters()} == {trains}, (unfrozen, index)
        below = {p.requires_grad for m in model.modules() if id(m) in embeddings for p in m.parameters(recurse=False)}
        assert below == {unfrozen < 0}


def test_positions_are_frozen_with_the_embeddings() -> None:
    for family, name in (("gpt_neo", "transformer.wpe.weight"), ("gpt2", "transformer.wpe.weight")):
        model = random_model(family)
        freeze_bottom(model, 1)
        assert not dict(model.named_parameters())[name].requires_grad
        assert not model.get_output_embeddings().weight.requires_grad  # tied to the token embeddings


def test_an_untied_head_and_the_final_norm_train() -> None:
    model = random_model("llama")
    freeze_bottom(model, 1)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"lm_head.weight", "model.norm.weight"} <= trains


def test_more_layers_than_there_are() -> None:
    with pytest.raises(UserError, match=r"num_layers_unfrozen is 5 but the model has 4 layers"):
        CausalLMPolicy(random_model(), 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_response_only_logits_equal_a_plain_full_forward(family: str) -> None:
    model = random_model(family)
    policy = CausalLMPolicy(model, 2).eval()
    ids, mask = ragged_rows()
    with torch.no_grad():
        got = policy(ids, mask, R, temperature=0.7, with_reference=True)
        for row in range(len(ids)):  # each row alone, without any padding, all logits
            real = mask[row].bool()
            n = int(mask[row, -R:].sum())
            logits = model(input_ids=ids[row : row + 1, real]).logits[:, -n - 1 : -1]
            expected = logprobs_of_tokens(logits, ids[row : row + 1, real][:, -n:], 0.7)
            torch.testing.assert_close(got["logprobs"][row, :n], expected[0], atol=2e-5, rtol=0)
            torch.testing.assert_close(got["entropy"][row, :n], entropy(logits, 0.7)[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", [*FAMILIES, "opt"])
def test_padding_changes_nothing(family: str) -> None:
    policy = CausalLMPolicy(random_model(family), 2).eval()
    ids, mask = ragged_rows()
    zeros = torch.zeros(len(ids), 4, dtype=torch.long)
    wide = policy(torch.cat([zeros, ids, zeros], 1), torch.cat([zeros, mask, zeros], 1), R + 4, with_reference=True)
    out = policy(ids, mask, R, with_reference=True)
    for name in ("logprobs", "values", "ref_logprobs", "entropy"):
        assert_close_at(mask, wide[name][:, :R], out[name], 2e-5)


@pytest.mark.parametrize("unfrozen", [0, 1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_replaying_the_trunk_equals_the_full_pass(family: str, unfrozen: int) -> None:
    ids, mask = ragged_rows()
    policy = CausalLMPolicy(random_model(family), unfrozen).eval()
    with torch.no_grad():
        kept = policy(ids, mask, R, with_reference=True)
    # the cache outlives updates of the blocks above it
    update(policy, ids, mask, steps=1, lr=0.01)
    results = []
    for trunk in (None, kept["trunk"]):
        policy.zero_grad()
        out = policy(ids, mask, R, trunk=trunk)
        real = ones_where_real(mask)
        ((out["logprobs"] * real).sum() + (out["values"] * real).square().sum()).backward()
        results.append((out, {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}))
    (full, full_grads), (replayed, replayed_grads) = results
    assert_close_at(mask, replayed["logprobs"], full["logprobs"], 1e-6)
    assert_close_at(mask, replayed["values"], full["values"], 1e-6)
    assert full_grads.keys() == replayed_grads.keys() == {n for n, p in policy.named_parameters() if p.requires_grad}
    for name, gradient in full_grads.items():
        torch.testing.assert_close(replayed_grads[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_replay_really_leaves_the_bottom_out() -> None:
    policy = CausalLMPolicy(random_model(), 1).eval()
    ids, mask = ragged_rows()
    kept = policy(ids, mask, R, with_reference=True)["trunk"]
    ran: list[int] = []
    for index, block in enumerate(find_blocks(policy.base_model)):
        block.register_forward_pre_hook(lambda *_, index=index: ran.append(index))
    policy(ids, mask, R, trunk=kept)
    assert ran == [LAYERS - 1]
    ran.clear()
    policy(ids, mask, R)
    assert ran == list(range(LAYERS))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    ids, mask = ragged_rows()
    gradients = []
    for checkpointing in (False, True):
        model = random_model()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        torch.manual_seed(0)
        policy = CausalLMPolicy(model, 2)
        kept = policy.eval()(ids, mask, R, with_reference=True)["trunk"].detach()
        policy.train()(ids, mask, R, trunk=kept)["logprobs"].sum().backward()
        gradients.append({n: p.grad for n, p in policy.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_seen_while_sampling_equal_the_forward_pass(family: str) -> None:
    model = random_model(family)
    policy = CausalLMPolicy(model, 2).eval()
    ids, mask = ragged_rows(response=0)
    torch.manual_seed(3)
    settings = {"max_new_tokens": 12, "do_sample": True, "temperature": 0.6}
    made = generate(model, ids, mask, settings, EOS, pad_token_id=EOS, with_logprobs=True)
    full = torch.cat([ids, made.response], 1)
    full_mask = torch.cat([mask, made.response_mask.long()], 1)
    with torch.no_grad():
        out = policy(full, full_mask, made.response.shape[1], temperature=0.6)
    assert made.logprobs is not None
    assert (made.logprobs - out["logprobs"])[made.response_mask].abs().max().item() <= 2e-5
    # and at another temperature they differ, so the agreement says something
    other = policy(full, full_mask, made.response.shape[1], temperature=1.0)["logprobs"]
    assert (made.logprobs - other)[made.response_mask].abs().max().item() > 1e-2


def test_values_come_from_the_state_before_each_token() -> None:
    policy = CausalLMPolicy(random_model(), 2).eval()
    ids, mask = ragged_rows()
    before = policy(ids, mask, R)["values"]
    ids[:, -1] = ids[:, -1] % 200 + 7  # another last token: no state before it has seen it
    assert torch.equal(policy(ids, mask, R)["values"], before)


def test_a_model_without_blocks_is_refused() -> None:
    model = random_model()
    model.config.num_layers = 7
    with pytest.raises(UserError, match="cannot find the 7 decoder blocks"):
        find_blocks(model)
