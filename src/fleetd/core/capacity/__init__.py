"""What there is to give: connections, memory, and how much more the database can take; and who gets it.

The only package that turns a desired count down for want of something.
"""
