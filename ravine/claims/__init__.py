"""What the textbook's chapter says, each statement as an experiment: one file and one line in `CLAIMS` each.

A claim's name is its file's, with hyphens. Files whose names begin with an underscore are settings that several share.
"""

from importlib import import_module

from ravine.core.claim import Claim
from ravine.core.errors import RavineError, unknown

CLAIMS = (
    # slide 4
    "auc-is-not-cross-entropy",
    # slides 5 and 6
    "empirical-risk",
    # slide 7
    "zero-one-has-no-gradient",
    "random-labels-memorized",
    "margin-grows-after-zero-error",
    # slide 8
    "stops-with-large-gradient",
    "halts-at-no-minimum",
    # slide 9
    "gradient-error-root-n",
    "identical-examples-redundant",
    "minibatches-need-fewer-gradients",
    # slide 10
    "small-batches-underuse-cores",
    "memory-grows-with-batch",
    "power-of-two-batches",
    "curvature-needs-large-batches",
    "batch-training-is-slower",
    "small-batches-regularize",
    # slide 11
    "fresh-minibatches-unbiased",
    "repeated-passes-bias-the-gradient",
    "shuffling",
    "shards-average-exactly",
    # slide 14
    "loss-change-foretold",
    "gradient-norm-grows",
    "steps-grow-with-kappa",
    # slide 15
    "weight-space-symmetry",
    # slide 16
    "linear-autoencoder-census",
    "random-matrices-rarely-positive",
    "saddles-outnumber-minima",
    "index-rises-with-loss",
    # slide 17
    "newton-attracted-to-saddles",
    "saddle-free-escapes",
    # slide 18
    "powers-of-a-matrix",
    "gradients-through-time",
    # slide 19
    "straight-paths",
    "paths-are-long",
    "wrong-side-of-the-mountain",
    "likelihood-has-no-minimum",
    # slide 21
    "robbins-monro-conditions",
    "lr-above-the-best-of-100",
    # slide 22
    "update-cost-constant",
    "tolerance-before-one-pass",
    # slide 23
    "sgd-rates",
    "no-rate-below-one-over-k",
    "gradient-descent-is-linear",
    # slides 24 and 25
    "velocity-is-a-sum",
    "schedules-tell-momentums-apart",
    "momentum-root-kappa",
    "terminal-velocity",
    # slide 26
    "momentum-is-a-particle",
    "drags",
    # slide 27
    "nesterov-doubles-the-exponent",
    "nesterov-stochastic-rate",
    "nesterov-damps-stiff-directions",
    "nesterov-tolerates-larger-rates",
    "momentum-on-a-deep-autoencoder",
    # slide 29
    "convex-from-any-start",
    "init-decides-the-outcome",
    "equal-cost-other-generalization",
    # slide 30
    "equal-units-stay-equal",
    "random-directions-distinct",
    # slide 31
    "gaussian-or-uniform",
    "scale-of-weights-matters",
    "chaos-in-recurrent-nets",
    # slide 32
    "glorot-keeps-variances",
    "glorot-beats-standard",
    "bounds-of-two-fans",
    # slide 33
    "orthogonal-learns-at-any-depth",
    "norms-walk-randomly",
    "thousand-layers",
    "gains-of-nonlinearities",
    # slide 34
    "sparse-input-keeps-its-size",
    "sparsity-or-scale",
    # slide 35
    "one-minibatch-sets-the-scales",
    # slide 36
    "output-bias-is-log-marginals",
    "relu-bias-keeps-units-active",
    "forget-gates-open",
    # slide 38
    "delta-bar-delta-on-axes",
    "lr-is-hardest",
    # slide 39
    "adagrad-lr-decays",
    "adagrad-stalls-in-the-bowl",
    "adagrad-rare-features",
    # slide 40
    "rmsprop-forgets",
    "rmsprop-first-step-bias",
    "epsilon-inside-the-root",
    # slide 41
    "rmsprop-nesterov",
    # slide 42
    "adam-bias-correction",
    "adam-scale-invariance",
    "adam-lr-tolerance",
    "adam-can-fail",
    # slide 43
    "escaping-the-saddle",
    "momentum-overshoots-on-beale",
    # slides 44 and 45
    "newton-one-step",
    "newton-costs-k-cubed",
    "damped-newton-turns-to-gradient",
    # slide 46
    "cg-conjugate-directions",
    "steepest-descent-zigzags",
    "cg-ends-after-n-steps",
    "cg-beats-descent-on-digits",
    # slides 47 and 48
    "bfgs-finite-termination",
    "bfgs-tolerates-loose-search",
    # slide 49
    "sign-of-the-direction",
    "quasi-newton-memory",
    "lbfgs-is-cg",
    "lbfgs-within-twice-bfgs",
    # slide 51
    "layers-move-together",
    "large-weights-blow-up-a-step",
    # slide 52
    "batch-norm-identities",
    "batch-norm-forgets-initial-scale",
    "batch-norm-needs-fewer-steps",
    "batch-norm-tolerates-larger-rates",
    # slide 53
    "batch-norm-scale-and-shift",
    # slide 54
    "coordinate-descent-contraction",
    "sparse-coding-alternates",
    "coordinate-descent-on-a-ridge",
    # slide 55
    "polyak-averaging",
    "average-of-a-networks-weights",
    "mean-of-two-networks",
    # slides 56 and 57
    "greedy-pretraining",
    # slide 58
    "transferred-features",
    "transfer-between-equal-halves",
    # slide 59
    "hints-for-thin-deep-networks",
    # slide 60
    "model-family-beats-optimizer",
    "highways-train-at-any-depth",
    "auxiliary-heads",
    "auxiliary-heads-early-on",
)
"""In the order of the slides, which is that of the gallery."""


def claim(name: str) -> Claim:
    """The claim of that name."""
    if name not in CLAIMS:
        raise unknown("claim", name, CLAIMS, "`ravine claims list` says what each is about.")
    found = import_module(f"ravine.claims.{name.replace('-', '_')}").claim
    assert isinstance(found, Claim)
    return found


def select(names: tuple[str, ...] | list[str], *, everything: bool = False, slide: int | None = None) -> list[str]:
    """The names of the claims that are meant: the named ones, all, or those of one slide."""
    if names and (everything or slide is not None):
        raise RavineError("give names of claims, or --all, or --slide: not several of these")
    if names:
        return [name for name in dict.fromkeys(names) if claim(name)]
    if slide is None:
        if not everything:
            raise RavineError(f"which claims? Give names ({', '.join(CLAIMS[:3])}, ...), --slide N, or --all")
        return list(CLAIMS)
    found = [name for name in CLAIMS if slide in claim(name).slide]
    if not found:
        known = sorted({number for name in CLAIMS for number in claim(name).slide})
        near = sorted(known, key=lambda number: (abs(number - slide), number))[:2]
        raise RavineError(
            f"no claim is about slide {slide}: the nearest slides with claims are {' and '.join(map(str, near))}. "
            f"All: {', '.join(map(str, known))}"
        )
    return found
