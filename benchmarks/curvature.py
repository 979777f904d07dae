"""What curvature costs and who gets it right: ours beside PyHessian, hessian-eigenthings and curvlinops in one run.

    python benchmarks/curvature.py [--rounds 9] [--parts product,batches,top,spectrum,layers,memory]

Everything runs on one thread, in turns, and seconds are those of the processor, so that a busy moment of the machine
falls on all alike; a figure is the median of the turns, with the quartiles behind it. The unit is a gradient as a user
takes it, by `torch.autograd.grad` with torch's kernels as they are. A peer that is not installed is left out:
`pip install --no-deps pyhessian hessian-eigenthings curvlinops-for-pytorch`, and what they import. Where a peer needs
a kernel switched off that ours switches off by itself, the parts on cost do so for it; "layers" does not.
"""

import argparse
import os
import warnings
from collections.abc import Callable

import torch
from curvature_parts.density import spectrum
from curvature_parts.eigenvalues import top
from curvature_parts.layers import layers
from curvature_parts.memory import inside, memory
from curvature_parts.packages import HERE, PEERS
from curvature_parts.products import products
from threadpoolctl import threadpool_limits
from torch.nn.attention import SDPBackend, sdpa_kernel


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=9)
    arguments.add_argument("--parts", default="product,batches,top,spectrum,layers,memory")
    arguments.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.filterwarnings("ignore")
    if given.inside:
        with sdpa_kernel(SDPBackend.MATH) if given.inside[0] != "gradient" else warnings.catch_warnings():
            inside(*given.inside)
        return
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"torch {torch.__version__}, one thread, {given.rounds} turns, load of the machine at the start {load}")
    for name in PEERS.keys() - HERE:
        print(f"{name} is not installed and left out")
    parts: dict[str, tuple[str, Callable[[], None]]] = {
        "product": (
            "a Hessian product on one batch, in gradients (at most 2.0 are wanted)",
            lambda: products(given.rounds),
        ),
        "batches": (
            "a product over 4 batches, in gradients over them (at most 3.4 are wanted)",
            lambda: products(given.rounds, 4),
        ),
        "top": ("five largest eigenvalues to 1 % (at most 0.6 is wanted)", lambda: top(given.rounds)),
        "spectrum": ("density of the spectrum (at most 0.5 is wanted)", lambda: spectrum(given.rounds)),
        "layers": ("a product in float64 against the dense Hessian", layers),
        "memory": ("peak memory (at most 3 gradients, and no growth over 200 products, are wanted)", memory),
    }
    for part in given.parts.split(","):
        print(f"\n{parts[part][0]}", flush=True)
        parts[part][1]()
    print(f"\nload of the machine at the end {', '.join(f'{one:.1f}' for one in os.getloadavg())}")


if __name__ == "__main__":
    main()
