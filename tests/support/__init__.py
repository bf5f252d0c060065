"""What tests are made of: builders of values, the simulated world, storms, laws, real servers; no test is in here.

builders: values for a test, short. world: fakes of the ports on a simulated host. storm: everything that can happen.
laws: what must hold after every tick. contracts: what every adapter and fake of a port promises. rig: real servers.
"""
