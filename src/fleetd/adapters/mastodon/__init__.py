"""Mastodon's own files: the settings in `.env.production`, and which version of its code lies on disk.

Nothing here writes in Mastodon's directory.
"""
