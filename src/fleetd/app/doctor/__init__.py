"""`fleetctl doctor`: the world as fleetd meets it, in checks: what was seen, why it matters, what mends it."""
