"""What tests are built from. There are no tests in here.

builders: values for a test, in few words. world: a simulated host behind fakes of the ports. storm: random schedules of
everything that can happen. laws: what must hold after every tick. contracts: what every adapter and fake of a port
promises. rig: real servers.
"""
