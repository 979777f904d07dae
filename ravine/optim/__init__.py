"""Drop-in names: `from ravine.optim import Adam` takes the arguments of torch.optim, and the engine's own.

`foreach` and `fused` choose how torch executes a step, not what it computes; they are accepted, and the engine decides
by itself. `capturable` and `differentiable` are refused where they are asked for. A param group may bring its own
values under torch's names; in `param_groups` they stand under the rule's (`beta1`, `beta2` for `betas`).
"""

from ravine.optim.around import SAM as SAM
from ravine.optim.around import Lookahead as Lookahead
from ravine.optim.averaged import AdamWScheduleFree as AdamWScheduleFree
from ravine.optim.averaged import SGDScheduleFree as SGDScheduleFree
from ravine.optim.curved import AdaHessian as AdaHessian
from ravine.optim.curved import SophiaG as SophiaG
from ravine.optim.matrix import SOAP as SOAP
from ravine.optim.matrix import Kron as Kron
from ravine.optim.matrix import Muon as Muon
from ravine.optim.matrix import MuonWithAuxAdam as MuonWithAuxAdam
from ravine.optim.matrix import Shampoo as Shampoo
from ravine.optim.modern import ADOPT as ADOPT
from ravine.optim.modern import LARS as LARS
from ravine.optim.modern import AdaBelief as AdaBelief
from ravine.optim.modern import Adafactor as Adafactor
from ravine.optim.modern import Adan as Adan
from ravine.optim.modern import AdEMAMix as AdEMAMix
from ravine.optim.modern import Lamb as Lamb
from ravine.optim.modern import Lion as Lion
from ravine.optim.modern import Prodigy as Prodigy
from ravine.optim.modern import fourth_root as fourth_root
from ravine.optim.torchs import SGD as SGD
from ravine.optim.torchs import Adadelta as Adadelta
from ravine.optim.torchs import Adagrad as Adagrad
from ravine.optim.torchs import Adam as Adam
from ravine.optim.torchs import Adamax as Adamax
from ravine.optim.torchs import AdamW as AdamW
from ravine.optim.torchs import DeltaBarDelta as DeltaBarDelta
from ravine.optim.torchs import NAdam as NAdam
from ravine.optim.torchs import RAdam as RAdam
from ravine.optim.torchs import RMSprop as RMSprop
from ravine.optim.torchs import Rprop as Rprop
