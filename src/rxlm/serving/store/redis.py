"""A store in Redis or Valkey, which servers on several machines can share."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rxlm.serving.store.backend import Changes, StoreError
from rxlm.serving.store.redis_url import RedisAddress

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
"""How long a connection and an answer are waited for, unless the URL says otherwise."""
CONNECTIONS = 50
SCRUB_SECONDS = 5.0
"""How long `scrub` waits for a rewriting of the log that is under way."""
FORMAT = 1
logger = logging.getLogger(__name__)

# A script runs alone, and what it has written stays: whatever can refuse is asked before the first change.
_APPLY = """
local counts, key, argument = {}, 0, 6
for step = 1, 6 do counts[step] = tonumber(ARGV[step]) end
local function next_key() key = key + 1; return KEYS[key] end
local function next_argument() argument = argument + 1; return ARGV[argument] end
for _ = 1, counts[1] do
  local found, exists, value = redis.call('GET', next_key()), next_argument(), next_argument()
  if exists == '0' then value = false end
  if found ~= value then return 0 end
end
for _ = 1, counts[2] do redis.call('DEL', next_key()) end
for _ = 1, counts[3] do redis.call('ZREM', next_key(), next_argument()) end
for _ = 1, counts[4] do redis.call('SET', next_key(), next_argument()) end
for _ = 1, counts[5] do redis.call('ZADD', next_key(), next_argument(), next_argument()) end
for _ = 1, counts[6] do redis.call('INCRBY', next_key(), next_argument()) end
return 1
"""
# In one script, so that no other client moves `after` between finding it and reading on from there.
_MEMBERS_AFTER = """
local rank = redis.call(ARGV[1] == '1' and 'ZREVRANK' or 'ZRANK', KEYS[1], ARGV[3])
if not rank then return {} end
return redis.call(ARGV[1] == '1' and 'ZREVRANGE' or 'ZRANGE', KEYS[1], rank + 1, rank + tonumber(ARGV[2]))
"""


class RedisBackend:
    """See `Backend`, and `redis_url` for URLs. One server with its replicas, no cluster; Redis 5 or later, or Valkey.

    What was committed lives as long as Redis keeps it. A store needs `appendonly yes`: a Redis that is killed then
    loses about the last second (`appendfsync everysec`) or nothing (`always`); with snapshots alone, all since the
    last one. `maxmemory-policy` has to be `noeviction` or `volatile-*`: with `allkeys-*`, Redis drops conversations
    when its memory is full, and a warning is logged when it is opened.

    Nothing is sent twice: after an error, changes may have been made or not; the next call connects again.
    ImportError where the package redis is missing; `StoreError` for a Redis that cannot be reached.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ImportError("A store in Redis needs the package redis: pip install 'reactive-lm[redis]'.") from error
        address = RedisAddress.read(url)
        self.place, self._password = address.place, address.password
        self._prefix = f"{address.prefix}:{FORMAT}:"
        self._errors = (redis.RedisError, OSError, ValueError)  # ValueError: an option's value
        self._refused = redis.ResponseError
        with self._told():
            # Waits where all connections are in use. RESP 2, because RESP 3 puts the password into a command that old
            # servers repeat in their error. No second try: a counter would count twice.
            pool = redis.BlockingConnectionPool.from_url(
                address.url,
                max_connections=CONNECTIONS,
                timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                **({} if address.is_local else {"socket_keepalive": True}),
            )
            self._client = redis.Redis.from_pool(pool)
            self._apply = self._client.register_script(_APPLY)
            self._members_after = self._client.register_script(_MEMBERS_AFTER)
            try:
                self._client.ping()
                self._warn_of_eviction()
            except BaseException:
                self._client.close()
                raise

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the values of keys, None where there is none."""
        if not keys:
            return []
        with self._told():
            found: list[Any] = self._client.mget([self._value(key) for key in keys])
        return found

    def apply(self, changes: Changes) -> bool:
        """Make all changes at once; False, and none made, where a value is not what was expected."""
        if any(number != number for number in changes.members.values()):
            raise StoreError(f"The store {self.place}: a member's number is NaN.")
        steps: tuple[list[tuple], ...] = (  # in the script's order: the key, and what is said of it
            [(self._value(key), int(value is not None), value or b"") for key, value in changes.expected.items()],
            [(self._value(key),) for key in changes.deleted],
            [(self._set(name), member.encode()) for name, member in changes.removed],
            [(self._value(key), value) for key, value in changes.values.items()],
            [(self._set(name), float(number), member.encode()) for (name, member), number in changes.members.items()],
            [(self._counter(name), more) for name, more in changes.counted.items()],
        )
        keys = [change[0] for step in steps for change in step]
        arguments = [argument for step in steps for change in step for argument in change[1:]]
        with self._told():
            return self._apply(keys=keys, args=[*map(len, steps), *arguments]) == 1

    def members(self, name: str, limit: int, after: str | None = None, *, newest: bool = True) -> list[str]:
        """Return members of a set in order, from the one after `after` on; see `Backend`."""
        if limit < 1:
            return []
        with self._told():
            if after is None:
                found: list[Any] = self._client.zrange(self._set(name), 0, limit - 1, desc=newest)
            else:
                found = self._members_after(keys=[self._set(name)], args=[int(newest), limit, after.encode()])
        return [member.decode() for member in found]

    def numbers(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Return the members with the smallest numbers, with these, smallest first."""
        if limit < 1:
            return []
        with self._told():
            found: list[Any] = self._client.zrange(self._set(name), 0, limit - 1, withscores=True)
        return [(member.decode(), float(number)) for member, number in found]

    def number(self, name: str, member: str) -> float | None:
        """Return the number of a member, None where it is none."""
        with self._told():
            found: Any = self._client.zscore(self._set(name), member.encode())
        return None if found is None else float(found)

    def size(self, name: str) -> int:
        """Return how many members a set has."""
        with self._told():
            return int(self._client.zcard(self._set(name)))

    def counter(self, name: str) -> int:
        """Return what a counter has."""
        with self._told():
            return int(self._client.get(self._counter(name)) or 0)

    def scrub(self) -> None:
        """Ask Redis to write its append-only file anew, where it has one; that is done some time after this returns.

        The files are Redis's own: the file holds what was deleted until it is written anew, and a snapshot (RDB) until
        the next one. Where Redis refuses, a warning is logged: what was deleted is in files still, but in no answer.
        """
        with self._told():
            try:
                if not self._client.info("persistence").get("aof_enabled"):
                    return
                # A rewriting that began before the deletion keeps what was deleted: it takes another one.
                waited_until = time.monotonic() + SCRUB_SECONDS
                while self._client.info("persistence").get("aof_rewrite_in_progress"):
                    if time.monotonic() > waited_until:
                        logger.warning("%s is writing its file anew since before a deletion.", self.place)
                        return
                    time.sleep(0.05)
                self._client.bgrewriteaof()
            except self._refused as error:
                logger.warning("%s does not write its file anew after a deletion: %s.", self.place, error)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _warn_of_eviction(self) -> None:
        try:
            policy = self._client.info("memory").get("maxmemory_policy", "")  # CONFIG is forbidden more often
        except self._refused:
            return
        if policy.startswith("allkeys"):
            logger.warning(
                "%s drops conversations when its memory is full: set maxmemory-policy to noeviction, not %s.",
                self.place,
                policy,
            )

    def _value(self, key: str) -> bytes:
        return f"{self._prefix}value:{key}".encode()

    def _set(self, name: str) -> bytes:
        return f"{self._prefix}set:{name}".encode()

    def _counter(self, name: str) -> bytes:
        return f"{self._prefix}counter:{name}".encode()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong becomes an error that names the server, without its password."""
        try:
            yield
        except self._errors as error:
            said = str(error).rstrip(".") or type(error).__name__
            if self._password:
                said = said.replace(self._password, "***")
            raise StoreError(f"The store {self.place}: {said}.") from None
