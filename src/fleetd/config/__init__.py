"""From fleetd.toml to settings and policy, with all errors at once. What the values are used for is not known here."""

from fleetd.config.loading import HttpAddress, Settings, load, parse, rights_line, unreadable

__all__ = ["HttpAddress", "Settings", "load", "parse", "rights_line", "unreadable"]
