"""Which leads are dropped."""

import torch
from helixwave_domains.ecg.lead_dropout import LeadDropout
from helixwave_domains.ecg.leads import LEAD_SETS, LEADS


def patterns(n_lead: int, share: float, B: int = 4000) -> torch.Tensor:
    torch.manual_seed(0)
    return LeadDropout(n_lead, share).draw(B)


def test_each_lead_with_the_probability() -> None:
    kept = patterns(5, 0.3)
    assert kept.any(1).all()
    assert ((1 - kept.float().mean(0)) - 0.3).abs().max() < 0.03
    # leads are dropped independently of one another, but for the one that stays
    assert ((~kept[:, 0] & ~kept[:, 1]).float().mean() - 0.09).abs() < 0.02


def test_one_lead_is_left_whatever_the_probability() -> None:
    kept = patterns(5, 0.999)
    assert (kept.sum(1) == 1).float().mean() > 0.9
    assert kept.any(1).all()
    assert (kept.float().mean(0) - 0.2).abs().max() < 0.03


def test_twelve_leads_are_reduced_to_the_sets_of_the_challenge() -> None:
    kept = patterns(12, 0.4)
    for leads in LEAD_SETS.values():
        if len(leads) < 12:
            wanted = torch.tensor([lead in leads for lead in LEADS])
            share = (kept == wanted).all(1).float().mean()
            assert abs(float(share) - 0.4 / len(LEAD_SETS)) < 0.02, leads


def test_zeros_in_training_alone() -> None:
    dropout, inputs = LeadDropout(3, 0.5), torch.ones(50, 4, 5)
    assert torch.equal(dropout.eval()(inputs), inputs)
    torch.manual_seed(3)
    dropped = dropout.train()(inputs)
    torch.manual_seed(3)
    assert torch.equal(dropped[:, 0, :3] != 0, dropout.draw(50))
    assert (dropped == dropped[:, :1]).all(), "a lead is dropped as a whole"
    assert (dropped[..., 3:] == 1).all(), "what is no lead stays"
    assert torch.equal(LeadDropout(3, 0.0).train()(inputs), inputs)
