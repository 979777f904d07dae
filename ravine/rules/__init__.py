"""Every rule: one file and one line here each."""

from ravine.core.rule import Chain as Chain
from ravine.core.rule import catalogue as catalogue
from ravine.core.rule import chain as chain
from ravine.rules.adam import Adam as Adam
from ravine.rules.amsgrad import AMSGrad as AMSGrad
from ravine.rules.decay import Decay as Decay
from ravine.rules.momentum import Momentum as Momentum
from ravine.rules.nadam import NAdam as NAdam
from ravine.rules.named import adamw as adamw
from ravine.rules.named import nadamw as nadamw
from ravine.rules.nesterov import Nesterov as Nesterov
from ravine.rules.sgd import SGD as SGD
