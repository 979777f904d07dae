"""Setting the hyperparameter that is hardest to set: the learning rate."""

from ravine.tune.drawing import draw as draw
from ravine.tune.learning_rate import lr_range as lr_range
from ravine.tune.result import Result as Result
