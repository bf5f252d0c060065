"""fleetd: runs as many Sidekiq processes for Mastodon as its queues need, on systemd."""

__version__ = "0.2.0"
