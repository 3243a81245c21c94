"""From an upload that is to be kept, or looked at, to its answer: avatars, files, pictures whose faces are asked for.

    the form, decoding      as of a job (`service.upload_request`, `worker.contract.intake`)
    files, then Redis       all of it stored, or none
    preparing               afterwards, by validator and inspector (`worker.asset_desk`)

A place of the caller's quotas is taken meanwhile, as for a job; then its bytes are counted until it is erased.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, Generic

from service.job_form import kinds_of
from service.problems import ProblemError
from service.provenance.policy import check_consent
from service.schemas.kept import AvatarOptions, KeptOptions, NoOptions
from service.upload import Form, Options, ReceivedFile, invalid, receive_parts
from service.upload_request import UploadRequest
from worker.contract.artifacts import StorageFullError
from worker.contract.assets import ASSET, Asset, AssetKind, AssetState
from worker.contract.errors import ErrorCode, of_field
from worker.contract.intake.file_names import ORIGINAL, PORTRAIT, SOUND, SPEECH
from worker.contract.intake.pictures import accept_image
from worker.contract.intake.probes import probe_video
from worker.contract.intake.sounds import accept_audio
from worker.contract.intake.uploads import WrongCombinationError
from worker.contract.logs import get_logger
from worker.contract.messages import AudioInput, ImageInput, Pending, VideoInput

LOOK_KEPT_S: Final = 120.0
"""A picture whose faces are asked for is erased with the answer, and at the latest then."""
_log = get_logger(__name__)


@dataclass(frozen=True)
class Sent(Generic[Options]):
    """One file and its options."""

    options: Options
    file: ReceivedFile
    field: str


class Keeping(UploadRequest[Sent[Options], Asset], Generic[Options]):
    """One request on its way to become something that is kept."""

    kind: ClassVar[AssetKind]
    fields: ClassVar[tuple[str, ...]]
    options: type[Options]

    # --- what differs -----------------------------------------------------------------------------------------------

    def _retention(self, options: Options) -> float | None:
        """Seconds until it is erased; None for ever."""
        return self._retention_s(getattr(options, "retention_s", None))

    def _check(self, options: Options) -> None:
        """Refuse what this deployment does not allow, when the form is complete."""

    # --- the way ----------------------------------------------------------------------------------------------------

    async def _receive_form(self, stream: AsyncIterator[bytes]) -> Sent[Options]:
        kinds = kinds_of(self._resources.settings.intake_limits)
        # One picture, where a job may have several.
        wanted = [kinds[name].once() for name in self.fields]
        form = Form(wanted, self.options, self._retention, self._check_files)
        options, files = await receive_parts(self._request.headers, stream, self._folder, form)
        if not files:
            message = "Field required" + (
                "" if len(self.fields) == 1 else f", or `{self.fields[1]}`"
            )
            raise invalid({self.fields[0]: message})
        (name, (file,)) = next(iter(files.items()))
        return Sent(options, file, name)

    def _check_files(self, files: Mapping[str, object]) -> None:
        if len(files) > 1:
            first, second = list(files)[:2]
            raise WrongCombinationError(
                second, f"Send either `{first}` or `{second}`, not both of them."
            )

    def _fingerprint(self, received: Sent[Options]) -> str:
        told = {
            "kind": self.kind.value,
            "options": received.options.model_dump(mode="json", exclude_defaults=True),
            received.field: received.file.sha256,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def _find(self, made_id: str) -> Asset | None:
        return self._resources.assets.get(made_id)

    def _accept(self, received: Sent[Options]) -> Asset:
        resources = self._resources
        self._check(received.options)
        resources.refused.check(received.file.sha256)
        waiting, most = resources.assets.num_waiting(), resources.settings.max_open_jobs
        if waiting >= most:
            raise ProblemError(
                ErrorCode.QUEUE_FULL,
                f"{waiting} avatars are being prepared; at most {most} may. Try again later.",
                params={"waiting": waiting, "max_waiting": most},
                headers={"Retry-After": "30"},
            )
        now, kept_s = datetime.now(UTC), self._retention(received.options)
        asset = Asset(
            id=self._id,
            kind=self.kind,
            state=AssetState.READY,
            principal=self._principal.id,
            share=self._principal.quota_id,
            created_at=now,
            expires_at=None if kept_s is None else now + timedelta(seconds=kept_s),
        )
        with of_field(received.field):
            asset = asset.model_copy(update=self._taken_in(received.file))
        self._check_client()
        return self._store(asset, received.file.path)

    def _taken_in(self, file: ReceivedFile) -> dict[str, object]:
        """Decode a file, or look at its head where it is a film; what the asset is then."""
        folder, path, limits = self._folder, file.path, self._resources.settings.intake_limits
        field = path.name.removeprefix("received-").split("-")[0]
        if field == "audio":
            sound = accept_audio(path, folder / SPEECH, folder / SOUND, limits, self._check_client)
            return {"audio": AudioInput(**asdict(sound))}
        if field == "image":
            image = accept_image(
                path, folder / PORTRAIT, limits, self._check_client, folder / ORIGINAL
            )
            return {"image": ImageInput(**asdict(image)), "state": AssetState.PREPARING}
        probe = probe_video(path, limits, "video")
        video = VideoInput(
            fps=probe.fps, format=probe.demuxer, bytes=probe.num_bytes, sha256=file.sha256
        )
        pending = Pending(
            files=("video",),
            max_audio_s=limits.max_audio_s,
            max_video_s=limits.max_video_s,
            max_side=limits.max_side,
            background=limits.background,
            keeps_rate=True,
        )
        return {"video": video, "pending": pending, "state": AssetState.PREPARING}

    def _store(self, asset: Asset, upload: Path) -> Asset:
        resources = self._resources
        upload.rename(self._folder / asset.upload_file)
        names = [asset.upload_file, *asset.normalised_files, ASSET]
        (self._folder / ASSET).write_text(asset.model_dump_json(exclude_defaults=True))
        stored_bytes = sum((self._folder / name).stat().st_size for name in names)
        asset = asset.model_copy(update={"stored_bytes": stored_bytes})
        try:
            for name in names:
                resources.artifacts.put(f"{asset.prefix}/{name}", self._folder / name)
        except StorageFullError:
            resources.artifacts.delete_prefix(asset.prefix)
            raise
        # Before Redis: what is kept without a line would be worse than a line without it.
        if asset.kind is not AssetKind.LOOK:
            resources.audit.write("made", asset.id, by=asset.principal, request_id=self._request_id)
        # If this raises `RedisError` it may have been written all the same; the sweep finds files
        # that belong to nobody.
        resources.assets.add(asset, idempotency=self._key)
        _log.info("asset_accepted", kind=asset.kind.value, field=asset.field)
        return asset


class AvatarKeeping(Keeping[AvatarOptions]):
    """A portrait or a film."""

    scope = "avatars"
    kind = AssetKind.AVATAR
    fields = ("image", "video")
    options = AvatarOptions

    def _check(self, options: AvatarOptions) -> None:
        check_consent(options.consent, self._resources.settings)


class FileKeeping(Keeping[KeptOptions]):
    """A voice."""

    scope = "files"
    kind = AssetKind.FILE
    fields = ("audio",)
    options = KeptOptions


class Looking(Keeping[NoOptions]):
    """A picture whose faces are asked for."""

    scope = "faces"
    kind = AssetKind.LOOK
    fields = ("image",)
    options = NoOptions

    def _retention(self, options: NoOptions) -> float | None:
        return LOOK_KEPT_S
