"""What root writes for the workers: their environment files, and the links by which a boot starts them.

Only fleetd-render and fleetd-stamp use it; the daemon, which is unprivileged, never does.
"""
