"""Virtual hosts: namespaces, a disk, cgroups and a systemd, and how to run things inside.

What runs on a host is not decided here but in `setup`.
"""
