"""The signer as its clients see it: what is asked, what is answered, and how.

    worker ── one packet: SigningRequest, and two open files ──▶ signer (`service.provenance`)
           ◀── one packet: SigningAnswer ────────────────────

The files travel as descriptors over a unix socket: the signer needs no access to the folder of the
media, and the key never leaves the signer. Whoever asks waits for a signer that is not there, so one
that is killed costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from worker.contract.logs import get_logger
from worker.contract.message import Message
from worker.contract.messages import JobInput
from worker.contract.results import Credentials, RendererInfo

MOST_BYTES: Final = 64 * 1024
"""Longest packet of either side."""
_PATIENCE_S: Final = 120.0
"""After so long without an answer the signer is asked anew; a large file takes seconds."""
_PROBE_S: Final = 2.0
_LOOK_S: Final = 0.5
_log = get_logger(__name__)

SourceType = Literal[
    "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia"
]


class Ingredient(Message):
    """An upload by its digest: no name, no thumbnail, nothing of the person.

    Args:
        title: What it was used as.
        format: Its media type, as far as the intake knows it.
        sha256: Of the bytes as they came.
        is_parent: The video is an edited version of it.
    """

    title: str
    format: str
    sha256: str
    is_parent: bool = False


class SigningRequest(Message):
    """What the manifest says; it is public for ever.

    Args:
        source_type: IPTC's term for how the pictures came about.
        model_name: What drew.
        weights_sha256: Digest of its checkpoint.
        ingredients: What it was made of.
        consent: Whether whoever asked stated that the person agreed.
    """

    ask: Literal["sign", "trust"] = "sign"
    source_type: SourceType = "trainedAlgorithmicMedia"
    model_name: str = ""
    weights_sha256: str | None = None
    ingredients: tuple[Ingredient, ...] = ()
    consent: Literal["stated"] | None = None

    @classmethod
    def of(cls, job_input: JobInput, renderer: RendererInfo) -> SigningRequest:
        """What is said of a video that was drawn from an input."""
        found: list[Ingredient] = []
        if job_input.options.seconds is None:
            found.append(_ingredient("voice", "audio", job_input.audio))
        if job_input.image is not None:
            found.append(_ingredient("picture", "image", job_input.image))
        if job_input.video is not None:
            video = _ingredient("video", "video", job_input.video)
            found.append(video.model_copy(update={"is_parent": True}))
        if job_input.driving_video is not None:
            found.append(_ingredient("driving video", "video", job_input.driving_video))
        found += [_ingredient("picture", "image", one) for one in job_input.references]
        return cls(
            source_type=_source_type(job_input, renderer),
            model_name=renderer.model_name,
            weights_sha256=renderer.weights_sha256,
            ingredients=tuple(found),
            consent=job_input.consent,
        )


class SigningAnswer(Message):
    """One of: the file is signed, it cannot be, or whom this installation trusts as itself.

    Args:
        credentials: What was signed.
        error: Why nothing was; a sentence for the operator.
        is_lasting: Asking again will not help.
        anchors: The installation's own authorities, PEM.
        other_anchors: Those of certificates from elsewhere with which it signed, PEM.
        other_serials: Serial numbers of these certificates.
        clock_anchors: Authorities of time-stamp servers that are believed, PEM.
    """

    credentials: Credentials | None = None
    error: str | None = None
    is_lasting: bool = True
    anchors: str = ""
    other_anchors: str = ""
    other_serials: tuple[str, ...] = ()
    clock_anchors: str = ""


class SigningError(Exception):
    """The signer refused; the message is for the operator.

    Args:
        message: Its reason.
        is_lasting: Asking again will not help.
    """

    def __init__(self, message: str, *, is_lasting: bool = True) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class SignerGoneError(Exception):
    """No signer answers."""


class SignerClient:
    """Asks the signer that listens at a path.

    Args:
        path: Its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def sign(
        self,
        request: SigningRequest,
        source: Path,
        destination: Path,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Credentials:
        """Have a finished file signed; wait for a signer as long as `on_wait` lets us.

        Args:
            request: What is to be said of it.
            source: The MP4.
            destination: Where the signed one goes; replaced.
            on_wait: Called about twice a second; what it raises ends the waiting.

        Raises:
            SigningError: The signer refuses.
            OSError: A file cannot be read or written.
        """
        pause_s, is_told = 0.1, False
        while True:
            try:
                with self._connection() as connection:
                    return ask_to_sign(connection, request, source, destination, on_wait)
            except SignerGoneError as error:
                if not is_told:
                    _log.warning("signer_away", reason=str(error))
                is_told = True
            on_wait()
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_S)

    def trust(self, *, patience_s: float = _PATIENCE_S) -> SigningAnswer:
        """The installation's own certificates.

        Args:
            patience_s: How long a signer may take to answer, in seconds.

        Raises:
            SignerGoneError: No signer answers.
            SigningError: It refuses.
        """
        with self._connection() as connection:
            return _ask(connection, SigningRequest(ask="trust"), (), lambda: None, patience_s)

    def fault(self) -> str | None:
        """Why nothing can be signed now; None: the signer answers within two seconds."""
        try:
            self.trust(patience_s=_PROBE_S)
        except (SignerGoneError, SigningError) as error:
            return str(error)
        return None

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            try:
                with reachable(self._path) as address:
                    connection.connect(address)
            except OSError as error:
                raise SignerGoneError(f"cannot connect: {error.strerror}") from error
            yield connection


def ask_to_sign(
    connection: socket.socket,
    request: SigningRequest,
    source: Path,
    destination: Path,
    on_wait: Callable[[], None] = lambda: None,
) -> Credentials:
    """Have a file signed over a connection; see `SignerClient.sign`.

    Raises:
        SignerGoneError: The signer left before it answered.
        SigningError: It refuses.
        OSError: A file cannot be read or written.
    """
    with source.open("rb") as unsigned, destination.open("w+b") as signed:
        answer = _ask(connection, request, (unsigned.fileno(), signed.fileno()), on_wait)
    if answer.credentials is None:
        raise SigningError("the signer's answer has no credentials")
    return answer.credentials


def socket_path(data_dir: Path, chosen: Path | None) -> Path:
    """Where the signer of a deployment listens."""
    return chosen or data_dir / "signer" / "signer.sock"


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """An address of a unix socket that is short enough, however long its path is.

    The name of a unix socket has at most 107 bytes (man 7 unix); through the open folder it has few.

    Raises:
        OSError: The folder does not exist.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _ask(
    connection: socket.socket,
    request: SigningRequest,
    descriptors: tuple[int, ...],
    on_wait: Callable[[], None],
    patience_s: float = _PATIENCE_S,
) -> SigningAnswer:
    until = time.monotonic() + patience_s
    connection.settimeout(_LOOK_S)
    try:
        socket.send_fds(connection, [request.model_dump_json().encode()], list(descriptors))
        packet = None
        while packet is None:
            with contextlib.suppress(TimeoutError):
                packet = connection.recv(MOST_BYTES)
            if packet is None:
                on_wait()
                if time.monotonic() > until:
                    raise SignerGoneError(f"no answer within {patience_s:g} s")
    except OSError as error:
        raise SignerGoneError(f"the connection broke: {error.strerror}") from error
    if not packet:
        raise SignerGoneError("the signer ended")
    try:
        answer = SigningAnswer.model_validate_json(packet)
    except ValidationError as error:
        raise SigningError("the signer's answer cannot be read") from error
    if answer.error is not None:
        raise SigningError(answer.error, is_lasting=answer.is_lasting)
    return answer


class _Upload(Message):
    format: str
    sha256: str


def _ingredient(title: str, kind: str, upload: Message) -> Ingredient:
    told = _Upload.model_validate(upload.model_dump())
    # The intake's names of formats are ffmpeg's and Pillow's, some with several alternatives.
    name = told.format.lower().split(",")[0]
    return Ingredient(title=title, format=f"{kind}/{name}", sha256=told.sha256)


def _source_type(job_input: JobInput, renderer: RendererInfo) -> SourceType:
    if renderer.weights_sha256 is None:
        # The test card: an algorithm, but nothing that was trained.
        return "algorithmicMedia"
    if job_input.video is not None:
        return "compositeWithTrainedAlgorithmicMedia"
    return "trainedAlgorithmicMedia"
