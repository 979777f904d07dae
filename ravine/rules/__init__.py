"""Every rule: one file and one line here each."""

from ravine.core.composition import catalogue as catalogue
from ravine.core.rule import Chain as Chain
from ravine.core.rule import chain as chain
from ravine.rules.adadelta import Adadelta as Adadelta
from ravine.rules.adagrad import AdaGrad as AdaGrad
from ravine.rules.adam import Adam as Adam
from ravine.rules.adamax import Adamax as Adamax
from ravine.rules.amsgrad import AMSGrad as AMSGrad
from ravine.rules.centralize import Centralize as Centralize
from ravine.rules.clip import AdaptiveClip as AdaptiveClip
from ravine.rules.clip import ClipNorm as ClipNorm
from ravine.rules.clip import ClipValue as ClipValue
from ravine.rules.decay import Decay as Decay
from ravine.rules.delta_bar_delta import DeltaBarDelta as DeltaBarDelta
from ravine.rules.lion import Lion as Lion
from ravine.rules.momentum import Momentum as Momentum
from ravine.rules.nadam import NAdam as NAdam
from ravine.rules.named import adamw as adamw
from ravine.rules.named import nadamw as nadamw
from ravine.rules.nesterov import Nesterov as Nesterov
from ravine.rules.radam import RAdam as RAdam
from ravine.rules.rmsprop import RMSProp as RMSProp
from ravine.rules.rprop import Rprop as Rprop
from ravine.rules.sgd import SGD as SGD
from ravine.rules.sign import Sign as Sign
