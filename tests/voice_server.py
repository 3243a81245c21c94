"""A small voice server with OpenAI's `POST /v1/audio/speech`; espeak-ng speaks.

    with VoiceServer() as server:
        server.url, server.requests, server.failures

espeak-ng's library and its voices come by wheel (espeakng-loader). It speaks in a process of its own,
because it may be loaded once in a process and keeps the settings of the voice before.
"""

from __future__ import annotations

import ctypes
import io
import json
import subprocess
import sys
import threading
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

VOICES = ("en", "de")
_RETRIEVE, _UTF8, _RATE_HZ = 1, 1, 22_050


class VoiceServer:
    """Listens on the loopback address.

    Attributes:
        requests: What was asked: the bodies, with the Authorization header as `key`.
        failures: Statuses to answer with first; 0 closes the connection.
        sound: What to answer instead of speech.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self.sound: bytes | None = None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.requests.append({**body, "key": request.headers.get("Authorization")})
        if self.failures and (status := self.failures.pop(0)) >= 0:
            if status:
                request.send_error(status)
            return
        if request.path != "/v1/audio/speech":
            request.send_error(405)
        elif body["voice"] not in VOICES:
            said = {"error": {"message": f"there is no voice {body['voice']}"}}
            _send(request, 400, "application/json", json.dumps(said).encode())
        else:
            _send(request, 200, "audio/wav", self.sound or speech(body["input"], body["voice"]))


def _send(request: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def speech(text: str, voice: str) -> bytes:
    """A text as espeak-ng reads it, as WAV."""
    command = [sys.executable, __file__, voice]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


def _speak(text: str, voice: str) -> bytes:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate_hz = library.espeak_Initialize(_RETRIEVE, 0, espeakng_loader.get_data_path().encode(), 0)
    assert rate_hz == _RATE_HZ, f"espeak-ng found no voices: {rate_hz}"
    samples: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(sound: Any, count: int, _events: Any) -> int:
        if count > 0:
            samples.append(ctypes.string_at(sound, 2 * count))
        return 0

    library.espeak_SetSynthCallback(receive)
    assert library.espeak_SetVoiceByName(voice.encode()) == 0
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE_HZ)
        out.writeframes(b"".join(samples))
    return buffer.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(_speak(sys.stdin.buffer.read().decode(), sys.argv[1]))
