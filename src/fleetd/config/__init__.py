"""The configuration floor: TOML to settings and policy, all errors at once."""

from fleetd.config.settings import ENV_FILE_MISSING, HttpAddress, Settings, load, parse

__all__ = ["ENV_FILE_MISSING", "HttpAddress", "Settings", "load", "parse"]
