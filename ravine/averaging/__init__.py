"""Averages of the weights, for any optimizer: kept beside the model, shown in their place while one looks."""

from ravine.averaging.checkpoints import average as average
from ravine.averaging.kinds import EMA as EMA
from ravine.averaging.kinds import SWA as SWA
from ravine.averaging.kinds import Polyak as Polyak
from ravine.averaging.recalibration import recalibrate as recalibrate
from ravine.averaging.tracking import Averaging as Averaging
