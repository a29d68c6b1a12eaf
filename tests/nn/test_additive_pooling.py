import pytest
import torch

from metaniche.nn.additive_pooling import AdditiveAttentionPooling


def pooled(n=30, bags=(0, 10, 10, 30), candidates=None, seed=0):
    torch.manual_seed(seed)
    pool = AdditiveAttentionPooling(8, 2).eval()
    torch.nn.init.normal_(pool.weight.weight)
    candidates = torch.ones(n, dtype=torch.bool) if candidates is None else candidates
    return pool(torch.randn(n, 8), torch.tensor(bags), candidates)


def test_a_bag_is_exactly_the_sum_of_its_cells_shares():
    logits, attention, bag = pooled()
    assert torch.allclose(bag[0], (attention[:10, None] * logits[:10]).sum(0), atol=1e-6)
    assert torch.allclose(bag[2], (attention[10:, None] * logits[10:]).sum(0), atol=1e-6)


def test_attention_sums_to_one_per_bag_and_an_empty_bag_gives_zero():
    _, attention, bag = pooled()
    assert torch.allclose(attention[:10].sum(), torch.tensor(1.0), atol=1e-6)
    assert (bag[1] == 0).all()


def test_only_candidates_are_pooled():
    candidates = torch.arange(30) % 3 == 0
    _, attention, _ = pooled(candidates=candidates)
    assert (attention[~candidates] == 0).all()
    assert (attention[candidates] > 0).all()


def test_a_bag_without_candidates_pools_all_of_its_cells():
    candidates = torch.arange(30) >= 10
    _, attention, bag = pooled(candidates=candidates)
    assert (attention[:10] > 0).all()
    assert torch.isfinite(bag).all()


def test_uniform_attention_is_the_mean_over_candidates_and_asks_for_no_gradient():
    pool = AdditiveAttentionPooling(8, 2).eval()
    pool.stay_uniform()
    candidates = torch.arange(30) % 2 == 0
    for pooling in (pool, pool.mean):
        logits, attention, bag = pooling(torch.randn(30, 8), torch.tensor([0, 10, 10, 30]), candidates)
        assert torch.allclose(bag[0], logits[:10][candidates[:10]].mean(0), atol=1e-6)
        assert (bag[1] == 0).all()
        assert attention[10:].tolist() == pytest.approx([0.1 * bool(c) for c in candidates[10:]])
    assert {n.split(".")[0] for n, p in pool.named_parameters() if p.requires_grad} == {"score"}
