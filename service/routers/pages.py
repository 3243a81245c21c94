"""`/` for people, `/docs` for programmers, and the files of both. No key is asked for: a page shows nothing
that is not in the sources, and its scripts send the key with what they ask.
"""

from __future__ import annotations

from typing import Annotated, Final, get_args
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.dependencies import SettingsDep
from service.pages.assets import STATIC, Assets
from service.pages.languages import choose_language, languages, texts_of
from service.problems import ProblemError
from service.settings import ServiceSettings
from worker.contract.errors import ErrorCode
from worker.contract.intake.formats import types_of
from worker.contract.intake.uploads import MAX_REFERENCES
from worker.contract.messages import LabelLanguage
from worker.contract.results import LabelName

router = APIRouter(include_in_schema=False)

_assets = Assets()
_templates = Environment(
    loader=FileSystemLoader(STATIC.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_YEAR_S: Final = 365 * 86_400
_CSP: Final = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    # Previews of what was chosen, and stills of earlier videos.
    "img-src 'self' blob: data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.api_route("/", methods=["GET", "HEAD"])
async def index(
    request: Request,
    settings: SettingsDep,
    lang: Annotated[str | None, Query(max_length=16)] = None,
) -> Response:
    """The page: a face and a voice go in, a video comes out."""
    return _page("index.html", request, settings, lang)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(
    request: Request,
    settings: SettingsDep,
    lang: Annotated[str | None, Query(max_length=16)] = None,
) -> Response:
    """The API's documentation, to read and to try."""
    return _page("docs.html", request, settings, lang)


@router.api_route("/favicon.ico", methods=["GET", "HEAD"])
async def favicon(request: Request) -> Response:
    """Asked for by browsers that saw no page of ours, such as beside a video."""
    return await static(request, "", "icon.svg")


@router.api_route("/static/{digest}/{name:path}", methods=["GET", "HEAD"])
async def static(request: Request, digest: str, name: str) -> Response:
    """A static file. Under another release's digest, too: during an upgrade both may be asked."""
    asset = _assets.find(name)
    if asset is None:
        raise ProblemError(ErrorCode.NOT_FOUND, f"Nothing is served at {request.url.path}.")
    is_lasting = digest == _assets.digest
    headers = {
        "Cache-Control": f"public, max-age={_YEAR_S}, immutable" if is_lasting else "no-cache",
        "ETag": asset.etag,
        "X-Content-Type-Options": "nosniff",
    }
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(asset.path, media_type=asset.content_type, headers=headers)


def _page(template: str, request: Request, settings: ServiceSettings, lang: str | None) -> Response:
    language = choose_language(lang, request.headers.get("accept-language", ""))
    root = str(request.scope.get("root_path", ""))
    body = _templates.get_template(template).render(
        t=texts_of(language),
        language=language,
        languages=languages(),
        root=root,
        static=f"{root}/static/{_assets.digest}",
        settings=settings,
        has_speech_server=bool(getattr(settings, "tts_url", None)),
        max_references=MAX_REFERENCES,
        labels=get_args(LabelName),
        label_languages=get_args(LabelLanguage),
        types={role: types_of(role) for role in ("image", "audio", "video")},
    )
    headers = {
        **_HEADERS,
        "Content-Security-Policy": _content_policy(settings),
        "Cache-Control": "no-cache",
        "Content-Language": language,
        "Vary": "Accept-Language",
    }
    return Response(body, headers=headers, media_type="text/html")


def _content_policy(settings: ServiceSettings) -> str:
    """What the page may load; videos also from where the storage's links lead."""
    storage = ""
    if settings.s3_bucket is not None and settings.s3_download_s is not None:
        # Links to AWS begin with the bucket's or the region's name.
        address = settings.s3_download_url or settings.s3_endpoint_url
        storage = " https://*.amazonaws.com" if address is None else f" {_origin(address)}"
    fetched = (f"connect-src 'self'{storage}", f"media-src 'self' blob:{storage}")
    return "; ".join((*_CSP, *fetched))


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
