"""Where training starts: initializations, each a function from (shape, role, gain, generator, dtype, device)."""

from ravine.init.sparse import Sparse as Sparse
from ravine.init.sparse import sparse as sparse
from ravine.init.strategy import Strategy as Strategy
