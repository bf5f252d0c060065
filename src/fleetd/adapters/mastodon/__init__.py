"""Mastodon's own files: the settings in `.env.production`, and which version of its code is on disk.

Nothing here writes to Mastodon's directory.
"""
