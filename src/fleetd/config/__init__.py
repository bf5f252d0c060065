"""From fleetd.toml to settings and policy, with all errors at once. What the values are used for is not known here."""

from fleetd.config.loading import ENV_FILE_MISSING, HttpAddress, Settings, load, parse

__all__ = ["ENV_FILE_MISSING", "HttpAddress", "Settings", "load", "parse"]
