"""Reasons: why fleetd decides, waits for or notices something, as values with their numbers.

Code decides by and compares these values. words/reasons.py has a sentence for each, and no decision depends on a
sentence. A new reason is a class here and a line there; a test fails if one is missing. Instances are named by their
key; queues, profiles and hosts by their name. Seconds, bytes and shares (0 to 1) are those at the decision.
"""

from fleetd.core.model.reasons.base import *
from fleetd.core.model.reasons.counts import *
from fleetd.core.model.reasons.evidence import *
from fleetd.core.model.reasons.fleet import *
from fleetd.core.model.reasons.replies import *
from fleetd.core.model.reasons.saving import *
from fleetd.core.model.reasons.scheduler import *
from fleetd.core.model.reasons.sharing import *
from fleetd.core.model.reasons.units import *
