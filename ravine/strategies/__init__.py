"""Procedures around training: pretraining, transfer, hints and distillation, curricula and continuation."""

from ravine.strategies import batch_norm as batch_norm
from ravine.strategies.copying import copy_layers as copy_layers
from ravine.strategies.drawing import draw_matrix as draw_matrix
from ravine.strategies.drawing import draw_stages as draw_stages
from ravine.strategies.greedy import pretrain as pretrain
from ravine.strategies.hints import distill as distill
from ravine.strategies.labels import class_halves as class_halves
from ravine.strategies.pacing import curriculum as curriculum
from ravine.strategies.smoothing import blended as blended
from ravine.strategies.smoothing import smoothed as smoothed
from ravine.strategies.stages import StageMoment as StageMoment
from ravine.strategies.transferring import Matrix as Matrix
from ravine.strategies.transferring import transfer as transfer
