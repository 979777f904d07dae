"""Where training starts: initializations, each a function from (shape, role, gain, generator, dtype, device)."""

from ravine.init.inspect import Findings as Findings
from ravine.init.inspect import inspect as inspect
from ravine.init.limits import LIMITS as LIMITS
from ravine.init.limits import Finding as Finding
from ravine.init.search import SearchReport as SearchReport
from ravine.init.search import search as search
from ravine.init.sparse import Sparse as Sparse
from ravine.init.sparse import sparse as sparse
from ravine.init.strategy import Strategy as Strategy
