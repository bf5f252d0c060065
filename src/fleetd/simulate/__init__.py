"""The daemon's own tick on a simulated world: what a policy would have done with a day of traffic."""
