"""Several hosts as one fleet: what each tells the leader, all of them as one host, and which host gets how many.

How many are needed in all is decided by `demand`, as for one host. Nothing here starts or stops anything, and nothing
here decides about a law: a host admits each of its starts itself.
"""
