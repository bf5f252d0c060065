"""The small worlds that are searched."""

from __future__ import annotations

from tests.support.fleet_search.world import Place, Setting

A, H, E = Place.AUTO, Place.HERE, Place.ELSEWHERE

MESSAGES = ("blind", "lose", "late", "slow")
SERVERS = ("flush", "failover", "jump")
OF_SCHEDULER = ("crash", "freeze", "cut", "restart", "stop", "pin", *MESSAGES, *SERVERS)
OF_CLAIMS = ("crash", "freeze", "cut", "restart", "hand", *MESSAGES, *SERVERS)

#: Two hosts, any one fault, and for the scheduler any two of some.
SHORT = {
    "scheduler: auto, auto": Setting(places=(A, A), faults=OF_SCHEDULER, faults_max=1),
    "scheduler: here, auto": Setting(places=(H, A), faults=OF_SCHEDULER, faults_max=1),
    "scheduler: here, elsewhere": Setting(places=(H, E), faults=OF_SCHEDULER, faults_max=1),
    "scheduler: one host": Setting(places=(A,), faults=("crash", "restart", "failover"), faults_max=2),
    "scheduler: here, auto, two faults": Setting(places=(H, A), faults=("late", "restart"), faults_max=2),
    "claims: min 1 and 0": Setting(
        places=(A, A), schedules=False, fit=True, more=1, standing=(1, 0), joined=True, faults=OF_CLAIMS, faults_max=1
    ),
    "claims: members": Setting(
        places=(A, A),
        schedules=False,
        fit=True,
        more=1,
        standing=(1, 1),
        joined=True,
        faults=("flush", "cut"),
        faults_max=2,
    ),
    "both": Setting(
        places=(H, A), fit=True, more=0, standing=(1, 0), scheduler_claims=True, faults=("cut", "flush"), faults_max=1
    ),
}

#: Three hosts; two hosts and any two faults.
LONG = {
    "scheduler: three auto": Setting(places=(A, A, A), faults=OF_SCHEDULER, faults_max=1),
    "scheduler: here and two auto": Setting(places=(H, A, A), faults=OF_SCHEDULER, faults_max=1),
    "claims: three hosts": Setting(
        places=(A, A, A),
        schedules=False,
        fit=True,
        more=1,
        standing=(1, 0, 0),
        joined=True,
        faults=("crash", "cut", "flush", "failover"),
        faults_max=1,
    ),
    "scheduler: auto, auto, two faults": Setting(places=(A, A), faults=OF_SCHEDULER, faults_max=2),
    "scheduler: here, auto, two faults": Setting(places=(H, A), faults=OF_SCHEDULER, faults_max=2),
    "scheduler: here, elsewhere, two faults": Setting(places=(H, E), faults=OF_SCHEDULER, faults_max=2),
    "claims: min 0, all processes": Setting(
        places=(A, A), schedules=False, fit=True, standing=(0, 0), faults=OF_CLAIMS, faults_max=1
    ),
    "claims: two faults": Setting(
        places=(A, A), schedules=False, fit=True, more=1, standing=(1, 0), faults=OF_CLAIMS, faults_max=2
    ),
    "both: with instances to ask for": Setting(
        places=(H, A),
        fit=True,
        more=1,
        standing=(1, 0),
        scheduler_claims=True,
        faults=("cut", "flush"),
        faults_max=1,
    ),
}
