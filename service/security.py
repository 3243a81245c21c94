"""Who asks, what they may do, and how often.

    require_keys          every request names a key; links in job objects carry a signature
    none (the default)    everyone is the same caller, the operator, on loopback only
    loopback_published    the same in a container whose port is published on loopback only
    allow_anonymous       strangers on a public address, because the operator said so

`require_keys` wins: one variable closes an installation, whatever else is set.

A person's face and voice are at stake, so the combination that nobody chose, open to the network
without keys, is refused at start.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis import Redis
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.exposure import ANONYMOUS, is_loopback
from service.keys import ApiKey, KeyReader, Scope
from service.links import LinkSigner, Purpose
from service.problems import ProblemError
from service.secret_file import InstallSecret, adopt_secret
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Args:
        id: Owner of the jobs; stored with each.
        scopes: What the caller may do.
        max_concurrent_jobs: Quota of open jobs; None: no limit.
        max_jobs_a_day: Quota of accepted jobs in a day; None: no limit.
        max_stored_bytes: Quota of files on the disk, in bytes; None: no limit.
        max_media_s_a_day: Quota of sound that is accepted in a day, in seconds; None: no limit.
        max_open_media_s: Quota of sound of open jobs, in seconds; None: no limit.
        retention_s: How long results are kept, in seconds, 0 = for ever; None: the deployment's.
        only_job: The one job that a signed link opens.
        is_shared: Strangers ask under this id. A job is found by its id, which is as good as a
            secret, and there are no lists.
        counted_as: Whose quotas they are; None: those of `id`.
        is_operator: Everyone on this machine, where no key is needed: nothing is counted.
    """

    id: str
    scopes: frozenset[Scope]
    max_concurrent_jobs: int | None = None
    max_jobs_a_day: int | None = None
    max_stored_bytes: int | None = None
    max_media_s_a_day: float | None = None
    max_open_media_s: float | None = None
    retention_s: float | None = None
    only_job: str | None = None
    is_shared: bool = False
    counted_as: str | None = None
    is_operator: bool = False

    @property
    def quota_id(self) -> str:
        """Under what name jobs are counted."""
        return self.counted_as or self.id

    @property
    def has_quotas(self) -> bool:
        """Whether anything is limited."""
        limits = (
            *(self.max_concurrent_jobs, self.max_jobs_a_day),
            *(self.max_stored_bytes, self.max_media_s_a_day, self.max_open_media_s),
        )
        return any(limit is not None for limit in limits)

    def waits_as(self, owner: str | None) -> str | None:
        """Under what name this caller waits for a job; None: it is not counted.

        Args:
            owner: The principal of the job, in whose name the holder of a signed link waits.
        """
        if self.only_job is not None:
            return owner or ANONYMOUS
        return None if self.is_operator else self.quota_id

    def may(self, scope: Scope) -> bool:
        """Whether the caller has a scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def may_see(self, job_id: str, owner: str | None) -> bool:
        """Whether a job is the caller's business; if not, answer as if there were none.

        Args:
            job_id: The job.
            owner: The principal that the ledger has for it; None for jobs from before there were
                principals.
        """
        if self.only_job is not None:
            return job_id == self.only_job
        if Scope.ADMIN in self.scopes:
            return True
        return (owner or ANONYMOUS) == self.id


class Guard:
    """Lets callers in.

    Rates are counted in this process: they keep one process from being flooded, and counting
    reads in Redis would cost a write to its disk each. Quotas are counted exactly, in Redis
    (`service.quotas`).

    Args:
        settings: The deployment's settings.
        redis: Where the keys are.
    """

    def __init__(self, settings: ServiceSettings, redis: Redis) -> None:
        self._settings = settings
        self._keys = KeyReader(redis)
        self._links: LinkSigner | None = None
        if settings.require_keys:
            self._links = LinkSigner(InstallSecret(settings.secret_path), settings.link_ttl_s)
        self._read_rate = parse(settings.read_rate)
        self._write_rate = parse(settings.write_rate)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def prepare(self) -> None:
        """Read or make the secret that links need, so that a bad one is told at start; blocks.

        Raises:
            SecretFileError: The file is readable by others or has the wrong size.
            OSError: It can be neither read nor made.
        """
        adopt_secret(self._settings.first_secret_path, self._settings.secret_path)
        if self._links is not None:
            self._links.query("", "content")

    async def admit(self, request: Request, scope: Scope) -> Principal:
        """The caller, if their key is valid, has the scope, and is not asking too often.

        Raises:
            ProblemError: unauthorized, forbidden, rate_limited.
        """
        if not self._settings.require_keys:
            principal = await self._admit_anonymous(request)
            if scope is Scope.ADMIN and principal.is_shared:
                raise ProblemError(ErrorCode.FORBIDDEN, "Strangers may not do that.")
            return principal
        key = await self._key_of(request)
        principal = self._principal_of(key)
        # Counted before the scope is looked at: wrong requests are requests too.
        await self._count(request, principal.id)
        if not principal.may(scope):
            raise ProblemError(
                ErrorCode.FORBIDDEN,
                f"This key may not do that; it needs the scope {scope.value}.",
                params={"scope": scope.value},
            )
        return principal

    async def admit_to_list(self, request: Request) -> Principal:
        """Like `admit` with the scope read, for what shows jobs that were not named.

        Raises:
            ProblemError: unauthorized, forbidden, rate_limited.
        """
        principal = await self.admit(request, Scope.READ)
        if principal.is_shared:
            raise ProblemError(
                ErrorCode.FORBIDDEN,
                "Jobs are not listed where everyone is anonymous. Keep the ids of your jobs.",
            )
        return principal

    async def admit_link(self, request: Request, job_id: str, purpose: Purpose) -> Principal:
        """Like `admit` with the scope read, or by the signature in the address.

        Raises:
            ProblemError: unauthorized, forbidden, rate_limited.
        """
        expires = request.query_params.get("expires")
        signature = request.query_params.get("signature")
        if self._links is None or expires is None or signature is None:
            return await self.admit(request, Scope.READ)
        if not await run_in_threadpool(self._links.is_valid, job_id, purpose, expires, signature):
            raise ProblemError(
                ErrorCode.UNAUTHORIZED,
                "This link has expired or is not complete. Read the job again for a new one.",
                headers=_CHALLENGE,
            )
        await self._count(request, f"link-{job_id}")
        return Principal(id="link", scopes=frozenset({Scope.READ}), only_job=job_id)

    def link_query(self, job_id: str, purpose: Purpose) -> str:
        """What a link in a job object ends with: a signature, or nothing where no key is needed."""
        return self._links.query(job_id, purpose) if self._links is not None else ""

    async def _key_of(self, request: Request) -> ApiKey:
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        key: ApiKey | None = None
        if scheme.lower() == "bearer":
            key = await run_in_threadpool(self._keys.authenticate, text.strip())
        if key is None:
            # The same words for a missing, unknown, expired and revoked key.
            raise ProblemError(
                ErrorCode.UNAUTHORIZED,
                "Send a valid API key: `Authorization: Bearer tf_...`.",
                headers=_CHALLENGE,
            )
        # For the log: the id, which is no secret.
        request.scope.setdefault("state", {})["key"] = key.id
        return key

    def _principal_of(self, key: ApiKey) -> Principal:
        settings = self._settings
        return Principal(
            id=key.principal,
            scopes=key.scopes,
            max_concurrent_jobs=key.max_concurrent_jobs or settings.max_concurrent_jobs,
            max_jobs_a_day=key.max_jobs_a_day or settings.max_jobs_a_day,
            max_stored_bytes=key.max_stored_bytes or settings.max_stored_bytes,
            max_media_s_a_day=key.max_media_s_a_day or settings.max_media_s_a_day,
            max_open_media_s=key.max_open_media_s or settings.max_open_media_s,
            retention_s=key.retention_s,
        )

    async def _admit_anonymous(self, request: Request) -> Principal:
        self._check_anonymous(request)
        if self._serves_operator:
            return Principal(
                id=ANONYMOUS, scopes=frozenset({Scope.READ, Scope.WRITE}), is_operator=True
            )
        network = _network_of(request)
        await self._count(request, network)
        return Principal(
            id=ANONYMOUS,
            scopes=frozenset({Scope.READ, Scope.WRITE}),
            max_concurrent_jobs=self._settings.max_concurrent_jobs,
            max_jobs_a_day=self._settings.max_jobs_a_day,
            max_stored_bytes=self._settings.max_stored_bytes,
            max_media_s_a_day=self._settings.max_media_s_a_day,
            max_open_media_s=self._settings.max_open_media_s,
            is_shared=True,
            # One stranger must not use up the places of all; the address itself stays out of Redis.
            counted_as="net-" + hashlib.sha256(network.encode()).hexdigest()[:16],
        )

    def _check_anonymous(self, request: Request) -> None:
        self._check_origin(request)
        if self._serves_operator:
            self._check_loopback(request)

    @property
    def _serves_operator(self) -> bool:
        """Whether whoever asks without a key sits at this machine."""
        return self._settings.loopback_published or not self._settings.allow_anonymous

    def _check_origin(self, request: Request) -> None:
        """Without keys, another site's page could post in the name of whoever looks at it."""
        origin = request.headers.get("origin")
        if request.method in _SAFE_METHODS or origin is None:
            return
        own = urlsplit(self._settings.public_url or "")
        known = {*self._settings.cors_origins, f"{own.scheme}://{own.netloc}"}
        if origin in known or "*" in known:
            return
        if urlsplit(origin).netloc != request.headers.get("host", ""):
            raise ProblemError(
                ErrorCode.FORBIDDEN,
                "Pages of another site may not send requests here. Add the site to "
                "TALKFACE_CORS_ORIGINS if it may.",
            )

    def _check_loopback(self, request: Request) -> None:
        """The promise "loopback only", whatever server runs the application."""
        server = request.scope.get("server")
        is_inside = self._settings.loopback_published
        if server is not None and not is_inside and _is_public_address(str(server[0])):
            raise ProblemError(
                ErrorCode.UNAUTHORIZED,
                "Without API keys this service answers on loopback only.",
                headers=_CHALLENGE,
            )
        # A site may let its own name point here and talk to us through a visitor's browser. A name
        # without a dot is nobody's on the public network.
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        own = urlsplit(self._settings.public_url or "").hostname
        if "." in host and host != own and not is_loopback(host):
            raise ProblemError(
                ErrorCode.FORBIDDEN,
                f"Without API keys this service does not answer to the name {host}. "
                "If it is yours, set TALKFACE_PUBLIC_URL.",
            )

    async def _count(self, request: Request, who: str) -> None:
        is_read = request.method in _SAFE_METHODS
        kind, rate = ("read", self._read_rate) if is_read else ("write", self._write_rate)
        if not await self._limiter.hit(rate, kind, who):
            raise ProblemError(
                ErrorCode.RATE_LIMITED,
                f"Too many requests: at most {_words(rate)}. Wait as long as Retry-After says.",
                params={"requests": rate.amount, "per_s": rate.get_expiry()},
                headers={"Retry-After": str(await self._wait_s(rate, kind, who))},
            )

    async def _wait_s(self, rate: RateLimitItem, kind: str, who: str) -> int:
        window = await self._limiter.get_window_stats(rate, kind, who)
        return max(1, math.ceil(window.reset_time - time.time()))


def _words(rate: RateLimitItem) -> str:
    return f"{rate.amount} in {rate.get_expiry()} s"


def _is_public_address(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name, or the path of a unix socket.
        return False


def _network_of(request: Request) -> str:
    """Whom a rate counts for: an IPv4 address, or the /64 that one IPv6 customer has."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), 64), strict=False).network_address)
    return str(address)
