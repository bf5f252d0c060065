"""From waiting jobs to the number of instances: threads that the queues need, instances that makes, what is desired.

Nothing here asks whether connections or memory are left: that is `capacity`.
"""
