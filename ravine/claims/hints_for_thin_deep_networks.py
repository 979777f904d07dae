"""Slide 59: a thin deep student that a wide shallow teacher gives hints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ravine.claims._deep_nets import CHANCE, Deep, accuracies, arms, batches, best, entropies, gradient
from ravine.claims._stacked import Data, digits
from ravine.claims._walk import walk
from ravine.core.claim import Claim, Findings, Table, Trial
from ravine.core.evidence import Check, Role, at_least, reported
from ravine.core.figure import Figure, Panel, Series
from ravine.core.rule import Rule
from ravine.racing.estimate import mean
from ravine.rules import Adam, Momentum

TEACHER = Deep(2, 256)
LAYERS, WIDTH, GUIDED = 12, 16, 6
BATCH, TAU, SOFT = 32, 3.0, (4.0, 1.0)  # SOFT: weight of the teacher's answers, at the first and the last update
RULES: dict[str, tuple[Rule, Sequence[Sequence[float]]]] = {  # learning rates: direct, distillation, hint
    "momentum": (Momentum(0.9), ((0.003, 0.01, 0.03, 0.1), (0.001, 0.003, 0.01, 0.03), (1e-4, 3e-4, 1e-3, 3e-3))),
    "Adam": (Adam(), ((1e-3, 3e-3, 1e-2, 3e-2),) * 3),
}
SETTINGS = (("classic", "momentum"), ("he", "momentum"), ("classic", "Adam"))
WAYS = ("direct", "distillation alone", "hint, then distillation")


class _Lesson(NamedTuple):
    """Images of every copy (R, n, 64), their classes, and what the copy's teacher makes of them."""

    x: Tensor
    y: Tensor
    hint: Tensor
    answers: Tensor


Loss = Callable[[Tensor, _Lesson, int], Tensor]
"""Of the weights, a lesson, and the number of the update."""


def _teachers(trial: Trial, copies: int, train: Data) -> Tensor:
    """A trained teacher for every copy of the student."""
    start = TEACHER.start([trial.torch("teacher", i) for i in range(copies)], "he")
    draw = batches(*train, BATCH, [trial.torch("teacher's batches", i) for i in range(copies)])

    def losses(w: Tensor) -> Tensor:
        x, y = draw()
        return entropies(TEACHER.logits(w, x), y)

    steps = trial.pick(quick=100, normal=300)
    return next(islice(walk(Adam(), gradient(losses), start, 1e-3), steps, None))


@dataclass(frozen=True)
class _School:
    """Students of one kind, and the lessons of all images."""

    trial: Trial
    net: Deep
    lesson: _Lesson

    def run(
        self, rule: Rule, start: Tensor, lrs: Sequence[float], loss: Loss, steps: int, mask: Tensor | None = None
    ) -> Tensor:
        """The weights after training with each learning rate, arm after arm."""
        weights, lr = arms(start, lrs)
        copies, size = self.lesson.y.shape
        generators = [self.trial.torch("batches", i) for i in range(copies)]
        count, who = iter(range(steps)), torch.arange(copies)[:, None]

        def losses(w: Tensor) -> Tensor:
            rows = torch.stack([torch.randint(size, (BATCH,), generator=g) for g in generators])
            return loss(w, self.repeated(len(lrs), *(part[who, rows] for part in self.lesson)), next(count))

        return next(islice(walk(rule, gradient(losses, mask), weights, lr), steps, None))

    @staticmethod
    def repeated(times: int, *parts: Tensor) -> _Lesson:
        """For every arm."""
        return _Lesson(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in parts))

    def chosen(self, weights: Tensor, judge: Loss) -> Tensor:
        """The copies of the arm that is best on all images."""
        copies = len(self.lesson.y)
        with torch.no_grad():
            at = best(judge(weights, self.repeated(len(weights) // copies, *self.lesson), 0), copies)
        return weights[at * copies : (at + 1) * copies]

    def plain(self, w: Tensor, given: _Lesson, k: int) -> Tensor:
        """The labels alone."""
        return entropies(self.net.logits(w, given.x), given.y)

    def hint(self, w: Tensor, given: _Lesson, k: int) -> Tensor:
        """1/2 ||u_h(x) - r(v_g(x))||², the mean over the batch."""
        guess = self.net.predicted(w, self.net.hidden(w, given.x, GUIDED), 0)
        return 0.5 * (given.hint - guess).square().sum(-1).mean(1)

    def taught(self, steps: int) -> Loss:
        """H(y, P_S) + lambda tau² KL(P_T^tau, P_S^tau), lambda falling along `steps`."""

        def loss(w: Tensor, given: _Lesson, k: int) -> Tensor:
            ours = self.net.logits(w, given.x)
            p, q = ((a / TAU).log_softmax(-1) for a in (given.answers, ours))
            soft = TAU**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean(1)
            return entropies(ours, given.y) + (SOFT[0] + (SOFT[1] - SOFT[0]) * k / steps) * soft

        return loss


def _students(school: _School, how: str, name: str, hints: int, total: int) -> tuple[dict[str, Tensor], float]:
    """The weights of every copy at the learning rate that is best for its training loss, for each way to learn.

    And the hint's loss at the end of its part, over that of the best constant guess, the mean over the copies.
    """
    (rule, (lrs, soft_lrs, hint_lrs)), net, rest = RULES[name], school.net, total - hints
    start = net.start([school.trial.torch("student", i) for i in range(len(school.lesson.y))], how)
    found = {"direct": school.chosen(school.run(rule, start, lrs, school.plain, total), school.plain)}
    found[WAYS[1]] = school.chosen(school.run(rule, start, soft_lrs, school.taught(total), total), school.plain)
    guided = net.only(range(1, GUIDED + 1), heads=[0])
    hinted = school.chosen(school.run(rule, start, hint_lrs, school.hint, hints, guided), school.hint)
    found[WAYS[2]] = school.chosen(school.run(rule, hinted, soft_lrs, school.taught(rest), rest), school.plain)
    hint = school.lesson.hint
    with torch.no_grad():
        left = school.hint(hinted, school.lesson, 0) / (
            0.5 * (hint - hint.mean(1, keepdim=True)).square().sum(-1).mean(1)
        )
    return found, float(left.mean())


def _accuracy(net: Deep, weights: Tensor, data: Data) -> list[float]:
    """In percent, of each copy."""
    with torch.no_grad():
        return (100 * accuracies(net.logits(weights, data[0]), data[1])).tolist()


def _measure(trial: Trial) -> Findings:
    copies = trial.pick(quick=2, normal=5, full=10)
    hints, total = trial.pick(quick=(50, 150), normal=(500, 1500), full=(1000, 3000))
    train, test = ((x.float(), y) for x, y in digits(trial.torch("digits"), 1297, 500))
    teachers = _teachers(trial, copies, train)
    with torch.no_grad():
        hidden = TEACHER.hidden(teachers, train[0])
        x, y = (part.expand(copies, *part.shape) for part in train)
        lesson = _Lesson(x, y, hidden[-1], TEACHER.answered(teachers, hidden))
    teacher = _accuracy(TEACHER, teachers, train)
    checks = [at_least("weights of the teacher over the student's", TEACHER.size / Deep(LAYERS, WIDTH).size, 5)]
    rows, bars = [("teacher", "", str(mean(teacher)), str(mean(_accuracy(TEACHER, teachers, test))))], []
    net = Deep(LAYERS, WIDTH, heads=(GUIDED,), head_size=TEACHER.width)
    for how, name in SETTINGS:
        where = f"{'classic' if how == 'classic' else 'He'} initialization, {name}"
        students, left = _students(_School(trial, net, lesson), how, name, hints, total)
        found = {way: _accuracy(net, w, train) for way, w in students.items()}
        role: Role = "claim" if (how, name) == SETTINGS[0] else "condition"
        checks += _judged(where, role, found, teacher)
        checks.append(reported(f"{where}: loss of the hint at its end, over that of a constant guess", left))
        rows += [(way, where, str(mean(found[way])), str(mean(_accuracy(net, students[way], test)))) for way in WAYS]
        means = [mean(found[way]) for way in WAYS]
        lows, highs = [min(found[way]) for way in WAYS], [max(found[way]) for way in WAYS]
        bars.append(Series(where, range(3), [m.value for m in means], lows, highs, kind="both"))
    columns = ("way to learn", "student", "training accuracy (%)", "test accuracy (%)")
    table = Table(f"After {total} updates, means of {copies} copies with 95 % intervals", columns, rows)
    top = float(np.mean(teacher))
    bars.append(Series("teacher", (0, 2), (top, top), kind="reference"))
    caption = "Training accuracy of twelve layers of 16 units by how they learn, at equal updates; chance is 10 %."
    at = {way: float(i) for i, way in enumerate(WAYS)}
    return Findings(
        checks, [Figure(caption, [Panel("way to learn", "training accuracy (%)", bars, at=at)])], [table], NOTES
    )


def _judged(where: str, role: Role, found: dict[str, list[float]], teacher: list[float]) -> list[Check]:
    direct, alone, hinted = (np.array(found[way]) for way in WAYS)
    return [
        at_least(f"{where}: median training accuracy, hints less direct (points)", float(np.median(hinted - direct)),
                 20, role=role),
        at_least(f"{where}: the same less the teacher's (points)", float(np.median(hinted - np.array(teacher))), -5,
                 role=role),
        reported(f"{where}: training accuracy, direct (%)", mean(direct.tolist()), claimed="near chance, 10"),
        reported(f"{where}: with hints less distillation alone (points)", mean((hinted - alone).tolist())),
    ]  # fmt: skip


NOTES = (
    f"Direct training near chance has a loss near that of guessing, ln 10 = {CHANCE:.3f}.",
    "The claim is made for SGD, of which the book says that it can hardly train such students. At the classic "
    "initialization that is so, but then SGD can hardly teach the hint either: its loss stays near that of a constant "
    "guess. Where the hint is learnt (He's initialization, or Adam) direct training is far from chance already.",
    "So hints help here by some points, and distillation alone by about as many.",
    "All ways take the same number of updates from the same weights; the hint's are part of them. Learning rates are "
    "the best of four for each way and, for the hint, the best of four for its own loss.",
    "Published: a student with 10.4 times fewer weights than its teacher ends above it on CIFAR-10 (Romero et al. "
    "2015, abstract).",
)

claim = Claim(
    slide=(59,),
    kind="ARCH",
    statement="A student that is thinner and deeper than its teacher, too deep to be trained directly, can be trained "
    "with hints: first to predict the teacher's hidden layer from its own middle one, then the answers.",
    source="Kan Ren's slides, slide 59; Goodfellow, Bengio & Courville 2016, sec. 8.7.4; Romero et al. 2015 "
    "(arXiv:1412.6550), eq. 2 and 3, algorithm 1",
    equation="L_HT = 1/2 ||u_h(x) - r(v_g(x))||²,   L_KD = H(y, P_S) + λ τ² KL(P_T^τ, P_S^τ)",
    claimed="training accuracy at least 20 points above direct training and no more than 5 below the teacher, with 5 "
    "times fewer weights or less",
    setting="Teacher 2 hidden layers of 256 rectified units, student 12 of 16 with weights uniform within "
    "1/sqrt(fan-in) (classic), and as a condition those of He et al. 2015; "
    "1,297 digits, minibatches of 32, 1,500 updates, of which 500 for the hint from the teacher's second hidden layer "
    "to the student's sixth; τ = 3, λ from 4 to 1; SGD with momentum 0.9, and Adam; 5 copies.",
    measure=_measure,
    seconds=58,
    changed="The same criteria; the learning rates of distillation and of the hint were at first the direct ones (0.01 "
    "to 0.3) and 1e-4 to 0.1, too large for their losses, and left hints at chance. Twelve layers of tanh units were "
    "tried as well: direct training is then not near chance (31 %), so that there is nothing for hints to mend.",
)
