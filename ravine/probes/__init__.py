"""Every probe: one file and one line here each."""

from ravine.core.probe import Probe as Probe
from ravine.probes.grad_norm import GradNorm as GradNorm
from ravine.probes.update_ratio import UpdateRatio as UpdateRatio

make = Probe.make
