"""This host as one of a fleet: what it tells and asks the ledger, what it plans while it leads, and people's orders.

Neither the ledger's rules nor the decisions live here: those are core/fleet and core/sharing.
"""
