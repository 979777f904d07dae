"""That products are symmetric: torch's second derivatives are not right for every operation, and this shows it."""

from collections.abc import Callable

import torch
from torch import Tensor

from ravine.core.errors import RavineError


def check_symmetric(product: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype, device: torch.device) -> None:
    """Raise where uᵀ H v and vᵀ H u differ by more than rounding, for one seeded random pair: two products.

    Second derivatives at a point are symmetric wherever a gradient is differentiable there, so that no kink disturbs.
    Random uᵀ H v is as large as |H v|, which the difference is measured by. Of products that are not finite it raises
    too.
    """
    draw = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, size, generator=draw, dtype=torch.float64).to(device, dtype)
    Hu, Hv = product(u).double(), product(v).double()
    if not (torch.isfinite(Hu).all() and torch.isfinite(Hv).all()):
        raise RavineError(
            "the second derivative is not finite here, though the loss is: look for roots, norms and logarithms at "
            f"zero in the model and the loss, and for numbers too huge for {dtype}"
        )
    eps = torch.finfo(dtype).eps
    off = float((u.double() @ Hv - v.double() @ Hu).abs())
    scale = float(Hu.norm() + Hv.norm())
    if off > eps**0.3 * scale + 100 * eps * size**0.5:  # sums cancel, and may run in TF32; zero is made of rounding
        raise RavineError(
            f"torch's second derivative of some operation in the loss is wrong: u'Hv and v'Hu differ by "
            f"{off / scale:.2g} of |Hu| + |Hv|. Find it by params= one layer at a time, and write that operation "
            "(a fused kernel, or a torch.autograd.Function) of plain torch operations"
        )
