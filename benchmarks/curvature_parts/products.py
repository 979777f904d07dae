"""What a product costs, in gradients."""

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from curvature_parts.models import CASES, trained
from curvature_parts.packages import MAKERS, gradient_of, product_of, ratios, told, turns


def products(rounds: int, count: int = 1) -> None:
    """Cost of a product on `count` batches, in gradients on the same batches."""
    for case in CASES:
        model, batch = trained(case)
        batches = [batch] * count
        runs, first = {"gradient": gradient_of(model, batches)}, {}
        size = sum(p.numel() for p in model.parameters())
        v = torch.randn(size, generator=torch.Generator().manual_seed(0))
        with sdpa_kernel(SDPBackend.MATH):
            for name, make in MAKERS.items():
                mine = copy.deepcopy(model)
                mine.eval() if name == "PyHessian" else mine.train()
                try:
                    started = time.process_time()
                    product = product_of(make(mine, batches))
                    product(v)
                    first[name] = time.process_time() - started
                except Exception as error:
                    print(f"    {name} on {case}: {type(error).__name__}: {str(error).splitlines()[0]:.90}")
                    continue
                runs[name] = partial(product, v)
            plain = runs["gradient"]

            def gradient(plain: Callable[[], Any] = plain) -> None:
                with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
                    plain()

            spent = turns(runs | {"gradient": gradient}, rounds, 2)
        unit = statistics.median(spent["gradient"])
        print(f"  {case} ({size} parameters, gradient {1e3 * unit:.1f} ms)")
        for name in [name for name in spent if name != "gradient"]:
            cost = told(ratios(spent, name, "gradient"))
            print(f"    {name:22s}{cost:22s} set-up with the first product {first[name] / unit:7.1f}", flush=True)
