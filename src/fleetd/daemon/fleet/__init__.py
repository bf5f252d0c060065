"""This host as one of a fleet: what it tells and asks the ledger, and what it plans while it leads.

Neither the ledger's rules nor the decisions live here: those are core/fleet and core/sharing.
"""
