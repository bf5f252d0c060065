"""Several hosts as one fleet: what the ledger keeps, and the rules by which it answers.

The rules are the specification of the ledger: the in-process ledger and the simulator run them, and the Lua scripts of
adapters/ledger do the same. What lives here never knows Redis, and never decides how many instances there should be.
"""
