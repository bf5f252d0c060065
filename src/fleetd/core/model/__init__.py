"""The values that everything else works with: readings, configuration, decisions, and what is shown of them.

No rule about sizing, starting or stopping lives here, and nothing here imports another package of the core.
"""
