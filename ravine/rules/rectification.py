"""The variance rectification that RAdam and AdaBelief share."""

from typing import Any

from ravine.core.rule import choose


def rectification(t: Any, beta2: Any) -> tuple[Any, Any]:
    """Whether the second moment is known well enough at step `t` (rho > 5), and by how much to hold back then.

        rho_inf = 2 / (1 - beta2) - 1         rho = rho_inf - 2 t beta2^t / (1 - beta2^t)
        r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho)

    Liu et al. 2020, section 3.3 (arXiv:1908.03265).
    """
    longest = 2 / (1 - beta2) - 1
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    sure = rho > 5
    safe = choose(sure, rho, 6.0 + 0 * rho)  # a value for the branch that is not taken
    top = choose(longest > 5, longest, 6.0 + 0 * longest)
    return sure, ((safe - 4) * (safe - 2) * top / ((top - 4) * (top - 2) * safe)) ** 0.5
