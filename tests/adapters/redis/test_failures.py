"""Redis's refusals by their code, in the words of each version and of Valkey, and what is said of a refused write."""

from __future__ import annotations

import pytest
from redis import exceptions

from fleetd.adapters.redis.failures import code_of, error_code, write_refusal


@pytest.mark.parametrize(
    "reply",
    [
        "ERR ACL failure in script: User u has no permissions to run the 'get' command",
        "ERR ACL failure in script: No permissions to access a key",
        "NOPERM User u has no permissions to run the 'hget' command",
        "ERR The user executing the script can't access at least one of the keys mentioned in the command",
    ],
)
def test_missing_rights_are_missing_rights_in_any_words(reply: str) -> None:
    assert code_of(reply) == "NOPERM"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (exceptions.NoScriptError("No matching script. Please use EVAL."), "NOSCRIPT"),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "MISCONF"),
        (exceptions.ResponseError("ERR unknown command 'EVALSHA'"), "UNKNOWN"),
        (exceptions.ResponseError("s3cret, as it was sent"), "ERR"),
    ],
)
def test_an_error_has_the_code_that_redis_sent(error: Exception, code: str) -> None:
    assert error_code(error) == code


def test_a_refused_write_says_why_without_redis_s_own_words() -> None:
    def why(error: Exception) -> str:
        return write_refusal(error, without_right="give it +set")

    assert why(exceptions.NoPermissionError("User u has no permissions")) == "give it +set"
    assert "is a replica" in why(exceptions.ReadOnlyError("You can't write against a read only replica."))
    assert "min-replicas-to-write" in why(exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."))
    assert why(exceptions.ResponseError("ODD s3cret")) == "Redis answers ODD"
