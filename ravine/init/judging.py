"""From what was measured to findings: a value, a verdict, a reason and a fix each."""

import math
from collections.abc import Iterator, Sequence

from ravine.init.acting import Act, worst
from ravine.init.chance import Level
from ravine.init.limits import LIMITS, Finding, judge
from ravine.init.measuring import Signal
from ravine.init.through_time import ThroughTime

_SCALE = "rescale by ravine.init.search, or initialize by ravine.init.apply(model, \"orthogonal(gain='auto')\")"
_LOOK_AGAIN = "take a step and look again by --checkpoint, or begin with small weights instead of zero"
_OUTPUT = "the output's bias from the data by ravine.init.output_bias, and a smaller scale of the output's weights"
_GRADIENT = "gradient std"


def of_signal(
    signal: Signal, top: Signal, acts: Sequence[Act], silent: bool, around: bool, broken: str = ""
) -> Iterator[Finding]:
    """What is said of one layer; `top` is the last, whose outputs are judged by the loss.

    silent: the output's weights are zero, so that at first no gradient passes. around: gradients reach layers before
    this one, by whatever way. broken: the names of parameters with numbers that are not finite.
    """
    last = signal is top
    yield _std(signal, last, silent, broken)
    if signal.gradient is not None or signal.slope is not None:
        yield _arrives(signal, top, silent, around, broken)
    for act, value in (("dead", worst(list(acts), signal.name, "dead")),
                       ("saturated", worst(list(acts), signal.name, "saturated"))):  # fmt: skip
        if not math.isnan(value):
            yield _act(signal.name, act, value, next(a.function for a in acts if a.after == signal.name))
    if last or min(signal.units, signal.most) < 3 or not signal.std > 0:
        return
    yield _rank(signal)
    if not math.isnan(signal.likeness):
        yield _likeness(signal)


def _std(signal: Signal, last: bool, silent: bool, broken: str) -> Finding:
    value = signal.std
    verdict = judge("activation std", value)
    if last and verdict != "fail":
        verdict = "pass"
    if value == 0 and signal.slope:  # a known choice for outputs and the ends of residual branches
        return Finding("activation std", signal.name, value, "pass", "it begins at zero, and has a gradient")
    if verdict == "pass":
        return Finding("activation std", signal.name, value, verdict, f"outputs have std {value:.3g}")
    if value == 0 and silent and signal.slope == 0:  # as a branch that ends at zero, before an output at zero
        reason = "its outputs do not vary, and nothing arrives yet to change them: the output's weights are zero"
        return Finding("activation std", signal.name, value, "warn", reason, _LOOK_AGAIN)
    if value == 0:
        reason = "its outputs do not vary at all"
        fix = "its weights are zero or its inputs constant: initialize it anew"
    elif not math.isfinite(value):
        reason, fix = _not_finite("its outputs are not finite", broken)
    else:
        way, size = ("small", "larger") if value < 1 else ("large", "smaller")
        reason, fix = f"outputs have std {value:.3g}, too {way}", f"{size} weights here and below: {_SCALE}"
    return Finding("activation std", signal.name, value, verdict, reason, fix)


def _not_finite(what: str, broken: str) -> tuple[str, str]:
    """Reason and fix: numbers in the model that are not finite themselves, or a signal that has grown."""
    if broken:
        return f"{what}: there are NaN or infinite numbers in {broken}", f"initialize anew: {broken}"
    return f"{what}: the signal has grown too large", f"smaller weights: {_SCALE}"


def _arrives(signal: Signal, top: Signal, silent: bool, around: bool, broken: str) -> Finding:
    value = signal.gradient if signal.gradient is not None else signal.per_weight or 0.0
    layer = signal.name
    if value == 0 and silent:
        reason = "the output's weights are zero, so nothing arrives yet"
        return Finding(_GRADIENT, layer, value, "warn", reason, _LOOK_AGAIN)
    if value == 0 and around:
        return Finding(_GRADIENT, layer, value, "pass", "nothing arrives yet: its branch ends at zero")
    fix = "units above are dead, saturated or zero, or their weights too large or small: " + _SCALE
    if value == 0 or not math.isfinite(value):
        what = "no gradient arrives"
        if value:
            what, fix = _not_finite("its gradient is not finite", broken)
        return Finding(_GRADIENT, layer, value, "fail", what, fix)
    share = signal.arriving / top.arriving if signal.arriving and top.arriving else 1.0
    verdict = judge("gradient ratio", share)
    reason = f"the gradient in its outputs has std {value:.3g} and {share:.3g} times the norm of the last layer's"
    return Finding(_GRADIENT, layer, value, verdict, reason, "" if verdict == "pass" else fix)


def _act(layer: str, name: str, value: float, function: str) -> Finding:
    verdict = judge(name, value)
    percent = f"{100 * value:.3g} %"
    if name == "dead":
        reason = f"{percent} of units have no slope in {function} on the whole batch"
        fix = "biases of 0 or slightly above, smaller weights, inputs of mean 0 (or a larger batch to see more)"
    else:
        reason = f"{percent} of numbers lie where {function} is flat"
        fix = f"smaller weights or inputs: {_SCALE}"
    return Finding(name, layer, value, verdict, reason, "" if verdict == "pass" else fix)


def _rank(signal: Signal) -> Finding:
    verdict = judge("effective rank", signal.rank)
    reason = f"examples vary in {signal.rank:.3g} of {signal.most} directions"
    fix = "weights of larger rank (orthogonal), or inputs that vary more"
    return Finding("effective rank", signal.name, signal.rank, verdict, reason, "" if verdict == "pass" else fix)


def _likeness(signal: Signal) -> Finding:
    verdict = judge("likeness", signal.likeness)
    reason = f"two examples' outputs have cosine {signal.likeness:.6g}"
    fix = "biases that centre (search(centre=True)), fewer layers, skip connections or normalization"
    return Finding("likeness", signal.name, signal.likeness, verdict, reason, "" if verdict == "pass" else fix)


# ---------------------------------------------------------------- the whole


def ratio(signals: Sequence[Signal], silent: bool) -> Iterator[Finding]:
    """The norm of the weights' gradient, first layer over last."""
    found = [one for one in signals if one.slope is not None]
    if len(found) < 2 or silent:  # the lines of the layers say so
        return
    first, last = found[0], found[-1]
    value = math.nan  # where neither has any
    if first.slope or last.slope:
        value = (first.slope or 0.0) / last.slope if last.slope else math.inf
    verdict = judge("gradient ratio", value)
    reason = f"||dL/dW|| of {first.name} over that of {last.name} is {value:.3g}"
    way = "vanish" if value < 1 else "explode"
    fix = f"gradients {way} on the way back: {_SCALE}, or skip connections and normalization"
    if math.isnan(value):
        fix = "neither layer has a gradient: look at the lines above"
    yield Finding("gradient ratio", "", value, verdict, reason, "" if verdict == "pass" else fix)


def loss_at_start(loss: float, level: Level | None, broken: str = "") -> Finding:
    """The loss beside what knowing the targets' marginals gives."""
    if not math.isfinite(loss):
        return Finding("loss", "", loss, "fail", *_not_finite("the loss is not finite", broken))
    if level is None:
        return Finding("loss", "", loss, "pass", f"{loss:.4g}; the chance level of this loss is not known")
    if level.marginals is None:
        return _unknown_loss(loss, level)
    name = "squared loss at chance" if level.uniform is None else "loss at chance"
    alike = max(level.marginals, level.uniform or 0.0)  # what a net that knows nothing at all has
    if level.marginals > 0:
        value = loss / level.marginals
        verdict = judge(name, value)
        reason = f"{loss:.4g} is {value:.3g} times the chance level {level.marginals:.4g} ({level.kind})"
    elif alike > 0:
        value = loss / alike
        verdict = "fail" if value > 0.5 else "pass"  # at 0.5 the one class of two has a probability of 0.7
        reason = f"{loss:.4g} is {value:.3g} times ln K, and the batch has one class alone"
    else:
        value = math.inf if loss > 0 else 1.0
        verdict = judge(name, value)
        reason = f"{loss:.4g}, and the targets do not vary, so that one prediction would do ({level.kind})"
    if verdict == "fail" and alike > 0 and judge(name, loss / alike) != "fail":
        verdict = "warn"  # all classes alike are not their shares, but nothing is wrong with confidence
    return Finding("loss", "", loss, verdict, reason, "" if verdict == "pass" else _OUTPUT)


def _unknown_loss(loss: float, level: Level) -> Finding:
    """Of class numbers and a loss that is no plain cross-entropy of theirs."""
    value = loss / (level.uniform or 1.0)
    reason = f"{loss:.4g}, {value:.3g} times {level.kind}; the chance level of this loss is not known"
    if value <= LIMITS["loss at chance"].fails[1]:
        return Finding("loss", "", loss, "pass", reason)
    fix = f"if it is a mean cross-entropy: {_OUTPUT}; an nn.CrossEntropyLoss(...) as loss is known"
    return Finding("loss", "", loss, "warn", reason, fix)


def identical(layer: str, count: int, units: int, waits: bool = False) -> Finding:
    """Units that are another's twin; waits: no gradient arrives yet, by which they could differ."""
    if count and waits:
        reason = f"{count} of {units} units have the same weights as another, and nothing arrives yet to part them"
        return Finding("identical units", layer, float(count), "warn", reason, _LOOK_AGAIN)
    verdict = judge("identical units", float(count))
    reason = f"{count} of {units} units have the same weights and the same gradients as another" if count else (
        f"all {units} units differ in weights or gradients"
    )  # fmt: skip
    fix = "" if verdict == "pass" else "break the symmetry: draw weights at random, a different row for each unit"
    return Finding("identical units", layer, float(count), verdict, reason, fix)


def of_time(one: ThroughTime) -> Iterator[Finding]:
    """Gradients through time, and the last state."""
    value, steps = one.ratio, len(one.arrives)
    verdict = judge("through time", value)
    reason = f"||dh_T/dh_1|| is {value:.3g} of ||dh_T/dh_T|| over {steps} steps, {one.per_step:.3g} a step"
    if value < 1:
        fix = "recurrent weights orthogonal or the identity, forget gates open (bias 1 or more), or shorter sequences"
    else:
        fix = "recurrent weights of spectral radius 1 or less, and clipped gradients"
    yield Finding("through time", one.name, value, verdict, reason, "" if verdict == "pass" else fix)
    value = one.std[-1]
    verdict = judge("state std", value)
    reason = f"the state has std {one.std[0]:.3g} after the first step and {value:.3g} after the last"
    fix = "recurrent weights of spectral radius near 1"
    yield Finding("state std", one.name, value, verdict, reason, "" if verdict == "pass" else fix)
