"""What the ledger may hold at most, as it is kept."""

from __future__ import annotations

from typing import Final

from fleetd.core.fleet.sizes import CLAIMS_BYTES_MAX
from fleetd.core.fleet.state import HOSTS_MAX, ORDERS_MAX
from fleetd.core.model.bounds import JSON_NUMBER_MAX

#: A number in Lua is a double.
NUMBER_MAX: Final = JSON_NUMBER_MAX
#: Of one field but plan and memory: JSON that the script writes can be longer than as it came.
VALUE_BYTES_MAX: Final = 4 * CLAIMS_BYTES_MAX
#: Three of each host, one of each order, and what there is once.
FIELDS_MAX: Final = 3 * HOSTS_MAX + ORDERS_MAX + 24
#: Of what the leader is told of all hosts: half of what one round trip may send.
TOLD_BYTES_MAX: Final = 8 * 1024 * 1024
