"""`python -m pytest` here: ravine's own checks on the rule and the probe, and the first steps by hand."""

import pytest
import torch
from power_sign import PowerSign, WeightNorm
from ravine import Optimizer
from ravine.checks import check_probe, check_rule


def test_the_rule_keeps_the_contract_of_ravine():
    check_rule(PowerSign(alpha=2.0))


def test_the_probe_keeps_the_contract_of_ravine():
    check_probe(WeightNorm())


def test_agreeing_signs_lengthen_the_step_and_others_shorten_it():
    p = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = Optimizer([p], PowerSign(alpha=2.0), lr=1.0)
    for g in ([1.0, 1.0], [1.0, -0.5]):  # m of the second coordinate is 0.1, then 0.04
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
    assert p.tolist() == pytest.approx([-4.0, -1.75], abs=1e-12)
