"""Jobs for the stand-in Mastodon: how they come in, how long they take, and what became of each."""
