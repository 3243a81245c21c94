"""Who may do what in a private Redis: our processes what they need, an operator everything.

    default    whoever reaches the socket: our keys, and the commands that the service and RQ send
    operator   everything, with the password that lies beside the database

What is not on the list cannot be used by whoever gets hold of the socket: no CONFIG SET, no modules, no
other server to copy from, no shutdown.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

_KEYS: Final = ("~tf:*", "~rq:*", "&tf:*", "&rq:*")
_COMMANDS: Final = (
    # QUIT needs no right, and Redis 6.2 does not know it here.
    *("auth", "hello", "ping", "echo", "select", "time", "info", "scan", "config|get"),
    *("client|setname", "client|getname", "client|id", "client|list"),
    *("multi", "exec", "discard", "watch", "unwatch", "eval", "evalsha", "script|load"),
    *("script|exists", "publish", "subscribe", "psubscribe", "unsubscribe", "punsubscribe"),
    *("get", "mget", "set", "setex", "setnx", "psetex", "del", "unlink", "exists", "type", "incr"),
    *("incrby", "incrbyfloat", "decr", "expire", "expireat", "pexpire", "pexpireat", "ttl", "pttl"),
    *("persist", "hget", "hset", "hsetnx", "hmset", "hmget", "hgetall", "hdel", "hexists", "hkeys"),
    *("hvals", "hlen", "hincrby", "hincrbyfloat", "hscan", "llen", "lrange", "lrem", "lpush"),
    *("rpush", "lpop", "rpop", "lpos", "linsert", "lindex", "lset", "ltrim", "lmove", "blmove"),
    *("blpop", "brpop", "rpoplpush", "brpoplpush", "sadd", "srem", "smembers", "scard"),
    *("sismember", "zadd", "zrem", "zcard", "zcount", "zscore", "zmscore", "zrange", "zrevrange"),
    *("zrangebyscore", "zrevrangebyscore", "zremrangebyscore", "zremrangebyrank", "zincrby"),
    *(
        "zrank",
        "zscan",
        "zdiff",
        "rename",
        "xadd",
        "xread",
        "xrange",
        "xrevrange",
        "xlen",
        "xdel",
        "xtrim",
    ),
)
OPERATOR: Final = "operator"


def write_users(folder: Path) -> Path:
    """Write the file of users, and the operator's password if there is none.

    Args:
        folder: Of the database; nobody else may enter it.

    Returns:
        The file, for `aclfile`.
    """
    password = password_path(folder)
    if not password.exists():
        _write(password, secrets.token_hex(32))
    digest = hashlib.sha256(password.read_bytes()).hexdigest()
    allowed = " ".join(f"+{command}" for command in _COMMANDS)
    users = folder / "users.acl"
    _write(
        users,
        # Redis 6.2 lets a new user into all channels, and refuses a pattern beside them.
        f"user default on nopass resetchannels {' '.join(_KEYS)} -@all {allowed}\n"
        f"user {OPERATOR} on #{digest} ~* &* +@all\n",
    )
    return users


def password_path(folder: Path) -> Path:
    """The operator's password."""
    return folder / f"{OPERATOR}.password"


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    partial.replace(path)
