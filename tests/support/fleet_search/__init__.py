"""An exhaustive search over the ledger of a fleet (core/fleet): a small world around the rules themselves.

scale.py shrinks the constants, world.py says what a state is, ledgers.py calls the rules and checks each answer,
hosts.py and faults.py say what can happen next, claims.py and checks.py what must hold, calm.py what must be reached
once faults stop, and search.py visits every state.
"""
