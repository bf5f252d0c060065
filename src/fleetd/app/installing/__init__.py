"""`fleetctl install-units`: fleetd's units and policies on this host, beside programs that pip or uv has installed."""
