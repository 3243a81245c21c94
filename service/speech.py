"""Text becomes a voice: one request to the operator's voice server, before the job is accepted.

    text ──▶ POST <TALKFACE_TTS_URL>/v1/audio/speech (OpenAI's form) ──▶ the form's `audio`

The API does this and nobody else: it alone of the processes may talk to the network beside the
reconciler, and quotas and deadlines count seconds of sound, which are known only then. The address
is the operator's; no part of it comes from a caller. What comes back is checked as an upload is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Final

import httpx2

from service.job_form import audio_file
from service.problems import ProblemError
from service.schemas.form import TalkingFaceOptions
from service.schemas.problem import FieldError
from service.settings import ServiceSettings
from service.upload import ReceivedFile
from worker.contract.errors import ErrorCode, IntakeError
from worker.contract.logs import get_logger

_PATH: Final = "/v1/audio/speech"
# Seconds before the second and the third try.
_PAUSES_S: Final = (0.5, 2.0)
_CONNECT_S: Final = 5.0
_MAX_WORDS: Final = 200
_log = get_logger(__name__)


def check_speech(options: TalkingFaceOptions, settings: ServiceSettings) -> None:
    """Refuse a text where there is nobody to read it.

    Raises:
        ProblemError: invalid_options.
    """
    if options.text is not None and settings.tts_url is None:
        raise _refused(
            "text",
            "This service has no voice server, so it cannot speak a `text`. Send the voice as "
            "`audio`; an operator sets TALKFACE_TTS_URL.",
        )


async def speak(
    options: TalkingFaceOptions, settings: ServiceSettings, folder: Path
) -> ReceivedFile:
    """Have the text read.

    Args:
        options: With `text`, and perhaps `voice` and `language`.
        settings: Where the voice server is, and what is tolerated.
        folder: Where the sound goes.

    Raises:
        ProblemError: invalid_options, the voice server refused the text or the voice;
            speech_unavailable.
        StorageFullError: The volume has no room.
    """
    assert settings.tts_url is not None and options.text is not None, "`check_speech` was called"
    body = {
        "model": settings.tts_model,
        "input": options.text,
        "voice": options.voice or settings.tts_voice,
        "response_format": "wav",
    }
    if options.language is not None:
        # OpenAI's form has no word for it; these are the two that servers have.
        body |= {"language": options.language, "lang_code": options.language}
    headers = {}
    if settings.tts_api_key is not None:
        headers["Authorization"] = f"Bearer {settings.tts_api_key.get_secret_value()}"
    limits = httpx2.Timeout(settings.tts_timeout_s, connect=_CONNECT_S)
    try:
        async with (
            asyncio.timeout(settings.tts_timeout_s),
            httpx2.AsyncClient(timeout=limits, headers=headers, trust_env=False) as client,
        ):
            return await _insist(client, _address(settings.tts_url), body, settings, folder)
    except TimeoutError:
        raise _unavailable(f"It took longer than {settings.tts_timeout_s:g} s.") from None


async def _insist(
    client: httpx2.AsyncClient,
    url: str,
    body: dict[str, str],
    settings: ServiceSettings,
    folder: Path,
) -> ReceivedFile:
    """Ask until there is an answer, three times at most."""
    for pause_s in (*_PAUSES_S, None):
        try:
            return await _ask(client, url, body, settings, folder)
        except (httpx2.TransportError, _BusyError) as error:
            _log.warning("speech_failed", kind=type(error).__name__)
            (folder / "received-audio").unlink(missing_ok=True)
            if pause_s is None:
                break
            await asyncio.sleep(pause_s)
    raise _unavailable("It does not answer, or says that it cannot now.")


class _BusyError(Exception):
    """The voice server answered with a status that may be another one soon."""


async def _ask(
    client: httpx2.AsyncClient,
    url: str,
    body: dict[str, str],
    settings: ServiceSettings,
    folder: Path,
) -> ReceivedFile:
    async with client.stream("POST", url, json=body) as answer:
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise _BusyError(answer.status_code)
        if answer.status_code != 200:
            raise _refused("text", await _words_of_refusal(answer))
        sound = audio_file(folder, settings.intake_limits)
        try:
            async for piece in answer.aiter_bytes():
                await sound.write(piece)
            await sound.seek(0)
        except IntakeError as error:
            # Not the caller's fault, whatever it says.
            _log.warning("speech_unusable", code=error.code.value)
            raise _unavailable("What it sent is no sound that can be used.") from None
        finally:
            with contextlib.suppress(OSError):
                sound.stop()
    return sound


async def _words_of_refusal(answer: httpx2.Response) -> str:
    """What a voice server says about a text or a voice that it does not take."""
    if answer.status_code not in (400, 404, 413, 422):
        # A wrong key, a wrong address: the operator's business, and perhaps a secret.
        _log.error("speech_refused", status=answer.status_code)
        raise _unavailable("It refuses requests of this service.")
    said = ""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        values = json.loads(await answer.aread())
        said = str(values["error"]["message"] if "error" in values else values["detail"])
    words = f": {said[:_MAX_WORDS]}" if said else "."
    return f"The voice server refused this text, voice or language{words}"


def _address(tts_url: str) -> str:
    """The endpoint's address, of one that ends with it or not."""
    base = tts_url.rstrip("/")
    return base if base.endswith("/audio/speech") else base.removesuffix("/v1") + _PATH


def _refused(field: str, detail: str) -> ProblemError:
    errors = [FieldError(field=field, message=detail)]
    return ProblemError(ErrorCode.INVALID_OPTIONS, detail, errors=errors)


def _unavailable(why: str) -> ProblemError:
    return ProblemError(
        ErrorCode.SPEECH_UNAVAILABLE,
        f"The text could not be spoken: the voice server failed. {why} Try again later, or send the "
        "voice as `audio`.",
        headers={"Retry-After": "10"},
    )
