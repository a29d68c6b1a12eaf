import pytest
import torch

from metaniche.errors import ConfigError
from metaniche.nn.organ_soil import OrganSoil

LIGAND = [[0.9, 0.1, 0.5], [0.1, 0.8, 0.5], None, [0.3, 0.3, 0.5]]
RECEPTOR, SCALE = [4, 5, 4], [1.0, 2.0, 1.0]


def layer(seed=0):
    torch.manual_seed(seed)
    made = OrganSoil(LIGAND, RECEPTOR, SCALE)
    torch.nn.init.normal_(made.raw_weight, std=0.02)
    return made.double()


def test_it_is_the_sum_over_pairs_in_which_organs_differ():
    organs, signals = layer(), torch.rand(20, 6, dtype=torch.float64)
    met = torch.zeros(20, 4, dtype=torch.float64)
    for k in (0, 1, 3):
        for p in range(3):
            met[:, k] += organs.weight[p] * LIGAND[k][p] * signals[:, RECEPTOR[p]]
    expected = organs.slope * (met - met[:, [0, 1, 3]].mean(1, keepdim=True))
    expected[:, 2] = 0.0
    torch.testing.assert_close(organs(signals), expected, atol=1e-6, rtol=1e-6)


def test_a_ligand_that_waits_everywhere_says_nothing_of_any_organ():
    organs = OrganSoil([[0.7], [0.7]], [0], [1.0])
    assert not organs(torch.rand(5, 1)).abs().gt(1e-6).any()


def test_it_learns_which_pair_leads_where():
    """Cells with receptor 0 go to organ 0 and the others to organ 1; the second receptor and its pair say nothing."""
    torch.manual_seed(0)
    organs = OrganSoil([[0.9, 0.9], [0.05, 0.05]], [0, 1], [1.0, 1.0])
    signals = (torch.rand(400, 2) < 0.5).float()
    site = torch.stack((signals[:, 0], 1 - signals[:, 0]), dim=1)
    bias = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([*organs.parameters(), bias], lr=3e-3)
    for _ in range(300):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(organs(signals) + 20 * bias, site).backward()
        optimiser.step()
    weight = organs.weight.detach()
    assert weight[0] > 20 * weight[1]
    assert organs.slope > 0.6  # it starts at 0.5


def test_one_profile_is_refused():
    with pytest.raises(ConfigError, match="two sites or more, found 1"):
        OrganSoil([[0.5], None], [0], [1.0])


def test_gradients():
    organs, signals = layer(), torch.rand(4, 6, dtype=torch.float64, requires_grad=True)
    names = ("raw_weight", "slope")
    start = tuple(getattr(organs, name).detach().clone().requires_grad_() for name in names)

    def of_all(signals, *values):
        return torch.func.functional_call(organs, dict(zip(names, values)), signals)

    assert torch.autograd.gradcheck(of_all, (signals, *start))
