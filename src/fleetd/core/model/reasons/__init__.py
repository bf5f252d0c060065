"""Why: everything fleetd decides, waits for or notices, as values with their numbers.

Deciding and comparing use these values; words/reasons.py has a sentence for each, and nothing hangs on a sentence. A
new reason is a class here and a line there; a test fails where one is missing. Instances are named by their key;
queues, profiles and hosts by their name. Seconds, bytes and shares (0 to 1) are as they were when it was decided.
"""

from fleetd.core.model.reasons.base import *
from fleetd.core.model.reasons.counts import *
from fleetd.core.model.reasons.replies import *
from fleetd.core.model.reasons.units import *
