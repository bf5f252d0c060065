"""The commands of fleetctl: options, help texts, examples, exit statuses.

How something looks is decided in screens, never here.
"""
