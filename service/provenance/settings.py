"""Deployment settings of the signer, and where its files lie for those who verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.contract.logs import LogLevel
from worker.contract.shared_settings import SignerSocket
from worker.contract.signing import socket_path


class SignerSettings(BaseSettings):
    """Settings of `python -m service.provenance`."""

    model_config = SettingsConfigDict(env_prefix="TALKFACE_", frozen=True)

    data_dir: Annotated[
        Path, Field(description="Folder of uploads and results, shared with the workers.")
    ] = Path("talkface-data")
    log_level: Annotated[LogLevel, Field(description="Least level logged.")] = "INFO"
    signer_socket: SignerSocket = None
    signing_dir: Annotated[
        Path | None,
        Field(description="Folder of its keys; unset: <data_dir>/secrets/content-credentials."),
    ] = None
    signing_certificates: Annotated[
        Path | None,
        Field(description="PEM file: your own certificate, then those up to its authority."),
    ] = None
    signing_key: Annotated[
        Path | None, Field(description="PEM file, mode 0600: the key of that certificate.")
    ] = None
    timestamp_url: Annotated[
        str | None, Field(description="A time-stamp server (RFC 3161); unset: none is asked.")
    ] = None
    timestamp_authorities: Annotated[
        Path | None,
        Field(
            description="PEM file: the authorities of time-stamp servers whose stamps `verify` calls "
            "trusted."
        ),
    ] = None
    timestamp_required: Annotated[
        bool,
        Field(description="Fail a job whose time stamp cannot be had; else it is called missing."),
    ] = False

    @model_validator(mode="after")
    def _key_with_certificates(self) -> SignerSettings:
        if (self.signing_certificates is None) != (self.signing_key is None):
            raise ValueError(
                "signing_certificates and signing_key go together; set both, or neither for the "
                "installation's own certificate"
            )
        if self.timestamp_required and self.timestamp_url is None:
            raise ValueError("timestamp_required needs timestamp_url")
        return self

    @property
    def socket_path(self) -> Path:
        """Where the signer listens."""
        return socket_path(self.data_dir, self.signer_socket)

    @property
    def folder(self) -> Path:
        """Where its keys lie; never inside the artifact folder."""
        return self.signing_dir or self.data_dir / "secrets" / "content-credentials"
