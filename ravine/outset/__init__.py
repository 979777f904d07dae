"""Where a task's training starts: its model initialized, searched and inspected, and the signal drawn."""

from ravine.outset.drawing import plot_signal as plot_signal
from ravine.outset.start import Start as Start
from ravine.outset.start import start as start
