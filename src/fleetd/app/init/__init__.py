"""`fleetctl init`: from what is found on this host and its servers to a first fleetd.toml.

`look` finds, `propose` decides (values only), `text` writes each number with its reason. Nothing is started or stopped.
"""
