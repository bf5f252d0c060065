"""The commands of fleetctl, a file each: options, help texts, examples, exit statuses.

How something looks is in screens, never here.
"""
