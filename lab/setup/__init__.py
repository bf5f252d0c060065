"""What is put on hosts: Debian packages, fleetd and its units, Redis, Postgres and PgBouncer, the stand-in Mastodon."""
