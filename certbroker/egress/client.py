"""Requests over a pool of checked connections."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Final

import certifi
import httpcore
import httpx

from certbroker import background
from certbroker.egress.network import CheckedBackend, Exchange, exchange
from certbroker.egress.policy import EgressPolicy
from certbroker.ports.egress import EgressFailed, EgressRefused, OutsideResponse

# Above what threads ask for at once, so that one hanging server never takes the last connection from the others.
_MAX_CONNECTIONS: Final = 256
# Longer than the pauses between the steps of one order, shorter than the idle time-outs of common servers: a connection
# that the server closes under a request costs that request.
_KEEPALIVE_SECONDS: Final = 20.0
_MAX_HEADER_BYTES: Final = 64 * 1024
_CODINGS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class HTTPEgress:
    """The `Egress` port over httpx's engine: HTTP/1.1, pooled, thread-safe.

    There are no cookies, no redirects, no retries, no credentials from the environment or from .netrc, and no proxy
    but the policy's: a request carries what the caller gave and our User-Agent.
    """

    def __init__(self, policy: EgressPolicy) -> None:
        self.policy = policy
        backend = CheckedBackend(policy)
        context = trust_context(policy.trust)
        self._pool: httpcore.ConnectionPool
        if policy.proxy is None:
            self._pool = httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEPALIVE_SECONDS,
                network_backend=backend,
            )
        else:
            proxy = httpx.URL(policy.proxy)
            if proxy.scheme != "http" or not proxy.host:
                raise ValueError(
                    "egress: proxy is a URL such as http://proxy.example:3128; other schemes are not supported."
                )
            self._pool = httpcore.HTTPProxy(
                proxy_url=str(proxy.copy_with(userinfo=b"", path="/", query=None, fragment=None)),
                proxy_auth=(proxy.username, proxy.password) if proxy.userinfo else None,
                ssl_context=context,
                max_connections=_MAX_CONNECTIONS,
                keepalive_expiry=_KEEPALIVE_SECONDS,
                network_backend=backend,
            )

    def close(self) -> None:
        """Close every connection. Requests under way fail."""
        self._pool.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int = 1 << 20,
        timeout: float = 30.0,
        into: IO[bytes] | None = None,
    ) -> OutsideResponse:
        target = self.policy.check_url(url)
        request = self._request(method, target, headers or {}, content, timeout)
        with background.waiting(), exchange(timeout) as under_way:
            try:
                response = self._pool.handle_request(request)
                try:
                    received = _headers(response.headers)
                    body = _read(response.iter_stream(), received, max_bytes, under_way, into)
                finally:
                    response.close()
            except httpcore.LocalProtocolError as error:
                raise EgressRefused(f"The request to {target.host} cannot be written as HTTP: {error}") from error
            except (
                httpcore.NetworkError,
                httpcore.TimeoutException,
                httpcore.ProtocolError,
                httpcore.ProxyError,
                OSError,
            ) as error:
                raise EgressFailed(_text(target.host, error), sent=under_way.sent) from error
        return OutsideResponse(response.status, received, body, str(target))

    def _request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes | None, timeout: float
    ) -> httpcore.Request:
        # Identity is asked for, so that nothing has to be unpacked; `_read` copes with servers that do not listen.
        mine = {"user-agent": self.policy.user_agent, "accept-encoding": "identity", "host": url.netloc.decode()}
        if content is not None:
            mine["content-length"] = str(len(content))
        given = {name.lower(): value for name, value in headers.items()}
        try:
            lines = [(name.encode("ascii"), value.encode("ascii")) for name, value in {**given, **mine}.items()]
        except UnicodeEncodeError:
            raise EgressRefused("A request header is not ASCII.") from None
        return httpcore.Request(
            method,
            # The same parse that was checked.
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=lines,
            content=content,
            extensions={"timeout": dict.fromkeys(("pool", "connect", "read", "write"), timeout)},
        )


def trust_context(bundles: Iterable[str]) -> ssl.SSLContext:
    """A client context that trusts the system's certification authorities and those in the PEM files `bundles`.

    Where OpenSSL's default places hold nothing, as in a minimal container, certifi's list stands in. Raises ValueError
    naming a bundle that cannot be read.
    """
    context = ssl.create_default_context()
    places = ssl.get_default_verify_paths()
    if not places.cafile and not (places.capath and any(Path(places.capath).glob("*"))):
        context.load_verify_locations(certifi.where())
    for bundle in bundles:
        try:
            context.load_verify_locations(bundle)
        except OSError as error:
            raise ValueError(f"egress: the CA bundle {bundle} cannot be used: {error}") from error
    return context


def _headers(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header fields by lower-case name; repeated ones joined by a comma (RFC 9110 section 5.3)."""
    found: dict[str, str] = {}
    size = 0
    for name, value in lines:
        size += len(name) + len(value) + 4
        if size > _MAX_HEADER_BYTES:
            raise EgressFailed(f"The answer has more than {_MAX_HEADER_BYTES} bytes of headers.")
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _read(
    chunks: Iterable[bytes],
    headers: Mapping[str, str],
    max_bytes: int,
    under_way: Exchange,
    into: IO[bytes] | None = None,
) -> bytes:
    """The body, unpacked if need be, with the cap on what is received and on what it unpacks to. `into` takes it."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", *_CODINGS):
        raise EgressFailed(f"The answer is in the encoding {coding[:40]!r}, which was not asked for.")
    unpack = zlib.decompressobj(_CODINGS[coding]) if coding in _CODINGS else None
    body = bytearray()
    received = unpacked = 0
    for chunk in chunks:
        under_way.left()
        received += len(chunk)
        try:
            # One byte more than allowed, so that exceeding shows.
            part = unpack.decompress(chunk, max_bytes + 1 - unpacked) if unpack else chunk
        except zlib.error as error:
            raise EgressFailed(f"The answer cannot be unpacked: {error}") from error
        unpacked += len(part)
        if received > max_bytes or unpacked > max_bytes:
            raise _too_large(max_bytes)
        if into is None:
            body += part
        else:
            into.write(part)
    if unpack is not None and not unpack.eof and received:
        raise EgressFailed("The packed answer is incomplete.")
    return bytes(body)


def _too_large(max_bytes: int) -> EgressFailed:
    return EgressFailed(f"The answer is larger than {max_bytes} bytes.")


def _text(host: str, error: Exception) -> str:
    return f"{host}: {str(error) or type(error).__name__}"[:500]
