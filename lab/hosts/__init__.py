"""What a virtual host is made of: namespaces, a disk, cgroups, a systemd; and how to reach into it.

What runs on a host is not known here: that is `setup`.
"""
