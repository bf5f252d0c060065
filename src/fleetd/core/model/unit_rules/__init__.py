"""Which settings of a worker's unit fleetd relies on, and what it makes of others."""
