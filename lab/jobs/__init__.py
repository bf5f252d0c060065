"""Jobs for the stand-in Mastodon: how they arrive, how long they take, and what became of each."""
