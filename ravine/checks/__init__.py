"""What every rule, initialization, task and probe must do: run on all of ravine's own, and by anyone on theirs.

>>> from ravine.checks import check_rule
>>> from ravine.rules import Adam
>>> check_rule(Adam(beta2=0.99))
"""

from ravine.checks.inits import INIT_CHECKS as INIT_CHECKS
from ravine.checks.inits import check_init as check_init
from ravine.checks.probes import check_probe as check_probe
from ravine.checks.rules import RULE_CHECKS as RULE_CHECKS
from ravine.checks.rules import SIZES as SIZES
from ravine.checks.rules import check_rule as check_rule
from ravine.checks.tasks import check_task as check_task
