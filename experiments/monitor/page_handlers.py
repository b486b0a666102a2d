"""What the monitor's handlers share, and those that serve the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from tornado import web

from experiments.monitor.drift import Reference
from experiments.monitor.outcomes import OutcomeLog
from experiments.monitor.tokens import Holder, Role, Tokens
from experiments.monitor.ward import Ward

if TYPE_CHECKING:
    from experiments.monitor.hourly_ward import HourlyWard

TYPES = {"monitor.js": "text/javascript", "monitor.css": "text/css", "openapi.json": "application/json"}
PAGE = Path(__file__).with_name("page")
COOKIE = "wardround_monitor"
RETRY_SECONDS = 1
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Service:
    """What the handlers need.

    Attributes:
        ward: the ward.
        tokens: who may do what.
        registry: the metrics.
        notice: what the page says about its data, such as SYNTHETIC.
        secure: whether the connection is encrypted.
        hourly: the hourly risks, if a model of them is loaded.
        reference: the training patients that drift is judged against, if they are known.
        outcomes: what people reported of earlier predictions.
    """

    ward: Ward
    tokens: Tokens
    registry: CollectorRegistry
    notice: str
    secure: bool
    hourly: HourlyWard | None = None
    reference: Reference | None = None
    outcomes: OutcomeLog | None = None


class Handler(web.RequestHandler):
    """What all handlers share: tokens, errors as JSON, headers."""

    def initialize(self, service: Service) -> None:
        """Take the service."""
        self.service = service

    def set_default_headers(self) -> None:
        """Set headers that keep browsers from loading or guessing anything else."""
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")

    def require(self, role: Role) -> Holder:
        """Return who asks.

        Raises:
            HTTPError: 401, there is no valid token of this role.
        """
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = self.get_cookie(COOKIE, "") or "" if role == "person" else ""
        holder = self.service.tokens.identify(token, role) if token.isascii() else None
        if holder is None:
            self.service.ward.refused["token"] += 1
            raise web.HTTPError(401, reason=f"a token of role {role} is needed: Authorization: Bearer TOKEN")
        return holder

    def require_same_origin(self) -> None:
        """Refuse a page of another origin, which would act with a person's cookie.

        Raises:
            HTTPError: 403, another page asks.
        """
        if self.request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise web.HTTPError(403, reason="another page may not do this")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer an error as one line of JSON; no text of a request or traceback is in it."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        reason = error.reason if isinstance(error, web.HTTPError) and error.reason else self._reason
        if status_code == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        self.finish({"error": reason})

    def refuse_busy(self) -> None:
        """Ask the sender to come again."""
        self.service.ward.refused["busy"] += 1
        self.set_status(503)
        self.set_header("Retry-After", str(RETRY_SECONDS))
        self.finish({"error": "the monitor is busy: send this again"})


class Login(Handler):
    """POST /login: a person's token becomes a cookie that scripts cannot read."""

    def post(self) -> None:
        """Set the cookie, and go to the page."""
        token = self.get_body_argument("token", "")
        if not token.isascii() or self.service.tokens.identify(token, "person") is None:
            self.service.ward.refused["token"] += 1
            self.set_status(401)
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.finish((PAGE / "login.html").read_bytes())
            return
        self.set_cookie(COOKIE, token, httponly=True, samesite="Strict", secure=self.service.secure, expires_days=1)
        self.redirect("/")


class Index(Handler):
    """GET /: the page, or a form that asks for a token."""

    def get(self) -> None:
        """Answer the page."""
        token = self.get_cookie(COOKIE, "") or ""
        holder = self.service.tokens.identify(token, "person") if token.isascii() else None
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish((PAGE / ("index.html" if holder else "login.html")).read_bytes())


class Static(Handler):
    """GET /page/NAME: the page's script and style."""

    def get(self, name: str) -> None:
        """Answer one of the page's files."""
        if name not in TYPES:
            raise web.HTTPError(404)
        self.set_header("Content-Type", f"{TYPES[name]}; charset=utf-8")
        self.finish((PAGE / name).read_bytes())


class NotHere(Handler):
    """Any other address."""

    def prepare(self) -> None:
        """Answer 404."""
        raise web.HTTPError(404, reason="no such address")
