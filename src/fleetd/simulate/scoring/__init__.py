"""The result of a run: late jobs, instance-hours, reversals, and broken laws.

Nothing here changes what happens in the world.
"""
