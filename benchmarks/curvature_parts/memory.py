"""The peak of memory of a product, in gradients, each in a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from curvature_parts.models import CASES, trained
from curvature_parts.packages import MAKERS, gradient_of, product_of


def status(field: str) -> int:
    """Bytes, as the kernel counts this process."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def inside(what: str, case: str) -> None:
    """Prints the peak of a gradient or a product beyond what was there, in bytes; or the growth over 200 products."""

    def once(times: int) -> Callable[[], Any]:
        model, batch = trained(case, times, steps=0)
        if what == "gradient":
            return gradient_of(model, [batch])
        made = MAKERS[what.removesuffix(" growth")](model, [batch])
        v = torch.randn(sum(p.numel() for p in model.parameters()))
        product = product_of(made)
        return lambda: product(v)

    run = once(1)
    run(), run()
    if what.endswith("growth"):
        for _ in range(20):
            run()
        before = status("VmRSS")
        for _ in range(200):
            run()
        print(status("VmRSS") - before)
        return
    del run
    model, batch = trained(case, 8, steps=0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    if what == "gradient":
        run = gradient_of(model, [batch])
    else:
        product, v = product_of(MAKERS[what](model, [batch])), torch.randn(sum(p.numel() for p in model.parameters()))
        run = lambda: product(v)  # noqa: E731
    run(), run()
    print(status("VmHWM") - before)


def memory() -> None:
    def measured(what: str, case: str) -> float:
        called = [sys.executable, sys.argv[0], "--inside", what, case]
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # so that what is freed goes back at once
        done = subprocess.run(called, capture_output=True, text=True, env=environment)
        return float(done.stdout.split()[-1]) / 2**20 if not done.returncode else float("nan")

    for case in CASES:
        unit = measured("gradient", case)
        peaks = "  ".join(f"{name} {measured(name, case) / unit:.2f}" for name in MAKERS)
        growth = measured("ravine growth", case)
        print(f"  {case:12s} gradient {unit:7.1f} MB; products, in gradients: {peaks}; ravine grows {growth:+.2f} MB")
