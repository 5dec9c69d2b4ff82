"""URLs of Redis and Valkey: what is read from them, and what may be shown of them."""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from rxlm.serving.store.backend import StoreError

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""The schemes that are taken, and what the package redis calls them."""
DEFAULT_PREFIX = "rxlm"
OPTIONS = (
    "prefix", "db", "username", "password", "socket_timeout", "socket_connect_timeout", "max_connections", "timeout",
)  # fmt: skip
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_FORM = "redis://[user:password@]host[:port][/database][?option=value] or unix:///path/of/socket[?db=0]"


@dataclass(frozen=True)
class RedisAddress:
    """A URL of Redis, read.

    Fields:
        url: what the package redis takes. place: scheme, host, port and database, for messages.
        is_local: a socket of this machine. prefix: what all keys begin with. password: what may be in no message.
    """

    url: str = field(repr=False)
    place: str
    is_local: bool
    prefix: str
    password: str | None = field(repr=False)

    @classmethod
    def read(cls, url: str) -> "RedisAddress":
        """Read a URL; `StoreError`, which shows nothing of a password, where it is none or has other options."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 6379
            password = unquote(parts.password) if parts.password else None
            options = dict(parse_qsl(parts.query, keep_blank_values=True))
            database = int(options.get("db", "0" if parts.scheme == "unix" else parts.path.strip("/") or "0"))
        except ValueError:  # its text may have a part of the password
            raise cls._malformed() from None
        local = parts.scheme == "unix"
        if parts.scheme not in SCHEMES or database < 0 or parts.fragment or not (parts.path if local else host):
            raise cls._malformed()
        allowed = OPTIONS + TLS_OPTIONS if SCHEMES[parts.scheme] == "rediss" else OPTIONS
        if not all(name in allowed and value for name, value in options.items()):  # unnamed: may be of a password
            raise StoreError(f"The store's URL has another option, or one without a value: {', '.join(allowed)}.")
        host = f"[{host}]" if host and ":" in host else host
        prefix = options.pop("prefix", DEFAULT_PREFIX)
        return cls(
            url=f"{SCHEMES[parts.scheme]}://{parts.netloc}{parts.path}?{urlencode(options)}",
            place=f"unix://{parts.path}" if local else f"{parts.scheme}://{host}:{port}/{database}",
            is_local=local,
            prefix=prefix,
            password=password or options.get("password"),
        )

    @staticmethod
    def _malformed() -> StoreError:
        return StoreError(
            f"The store's URL is not {_FORM}. In a user's name and password, '/', '#', '?' and '@' are written %2F, "
            "%23, %3F and %40."
        )
