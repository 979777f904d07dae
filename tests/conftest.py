"""What all tests share: one thread, fixed seeds, and property tests that try the same examples every time."""

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("ravine", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ravine")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
