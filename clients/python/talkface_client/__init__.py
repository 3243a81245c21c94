"""Python client of a talkface service.

    from talkface_client import Client

    with Client("http://127.0.0.1:8000") as client:
        client.animate("me.jpg", "voice.wav", "talking.mp4")

`AsyncClient` has the same methods as coroutines.
"""

from importlib.metadata import version

from talkface_client.async_client import AsyncClient
from talkface_client.client import Client
from talkface_client.errors import (
    ApiError,
    DownloadError,
    JobEndedError,
    TalkfaceError,
    UnreachableError,
)
from talkface_client.form import File, Media
from talkface_client.models import (
    AvatarPublic,
    FacesPublic,
    FilePublic,
    JobPage,
    JobPublic,
    JobState,
    Problem,
)
from talkface_client.retries import RetryPolicy

__version__ = version("talkface-client")

__all__ = [
    "ApiError",
    "AsyncClient",
    "AvatarPublic",
    "Client",
    "DownloadError",
    "FacesPublic",
    "File",
    "FilePublic",
    "JobEndedError",
    "JobPage",
    "JobPublic",
    "JobState",
    "Media",
    "Problem",
    "RetryPolicy",
    "TalkfaceError",
    "UnreachableError",
]
