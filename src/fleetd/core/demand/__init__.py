"""From waiting jobs to instances: the threads that the queues need, the instances for them, and the desired counts.

Nothing here asks whether connections or memory are left: that is `capacity`.
"""
