"""What is installed on hosts: Debian packages, fleetd, Redis, Postgres, PgBouncer and the stand-in Mastodon."""
