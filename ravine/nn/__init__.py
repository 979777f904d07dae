"""Models that are easier to optimize: skip connections and auxiliary heads around a user's own layers."""

from ravine.nn.heads import Headed as Headed
from ravine.nn.heads import heads_task as heads_task
from ravine.nn.heads import with_heads as with_heads
from ravine.nn.heads import without_heads as without_heads
from ravine.nn.layers import Layer as Layer
from ravine.nn.layers import layers as layers
from ravine.nn.skips import Dense as Dense
from ravine.nn.skips import Highway as Highway
from ravine.nn.skips import Residual as Residual
from ravine.nn.skips import with_skips as with_skips
