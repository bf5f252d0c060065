"""What came of a run: late jobs, instance-hours, reversals, and laws that were broken.

Nothing here changes what happens in the world.
"""
