"""Virtual hosts with a real systemd each, for the demo and the integration tests.

    with Lab() as lab:
        main = lab.add_host("main", run=("redis-server",))
        worker = lab.add_host("worker1")
        lab.boot()
        worker.run(["redis-cli", "-h", "main", "ping"])

When the block ends, however it ends, everything is gone. Needs root on Debian or Ubuntu.
"""

from lab.errors import LabError
from lab.hosts.host import Host
from lab.hosts.namespaces import Process
from lab.hosts.unit import Unit
from lab.lab import Lab

__all__ = ["Host", "Lab", "LabError", "Process", "Unit"]
