"""Content Credentials of real MP4s: what is signed, and what every change of a file does to it."""

from __future__ import annotations

import http.server
import io
import json
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import c2pa
import pytest

from service.provenance.authority import Authority, AuthorityError
from service.provenance.reader import UnknownMediaError, read_report
from service.provenance.settings import SignerSettings
from service.provenance.signing import VideoSigner
from service.provenance.trust import Trust
from service.provenance.verdict import Verification, judge
from tests.films import ffmpeg, film
from tests.time_stamp_server import time_stamp_server
from worker.contract.results import Credentials
from worker.contract.signing import Ingredient, SigningError, SigningRequest

DIGEST = "cd" * 32
REQUEST = SigningRequest(
    model_name="talkface-small",
    weights_sha256="ab" * 32,
    ingredients=(
        Ingredient(title="voice", format="audio/wav", sha256="ee" * 32),
        Ingredient(title="picture", format="image/jpeg", sha256=DIGEST),
    ),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    return film(folder / "film.mp4", "-c:v", "libx264", "-movflags", "+faststart")


def sign(
    plain: Path, keys: Path, request: SigningRequest = REQUEST, **settings: object
) -> tuple[bytes, Credentials]:
    signer = VideoSigner(SignerSettings(signing_dir=keys, **settings))
    signer.prepare()
    signed = io.BytesIO()
    with plain.open("rb") as source:
        credentials = signer.sign(request, source, signed)
    return signed.getvalue(), credentials


def believe_clocks(keys: Path, authorities: Path) -> None:
    VideoSigner(SignerSettings(signing_dir=keys, timestamp_authorities=authorities)).prepare()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def signed(plain: Path, keys: Path) -> bytes:
    return sign(plain, keys)[0]


def verify(data: bytes, trust: Trust) -> Verification:
    return judge(read_report(io.BytesIO(data), "video/mp4", trust))


def boxes(data: bytes) -> dict[str, tuple[int, int]]:
    """Start and end of each box of the file, in their order."""
    found, start = {}, 0
    while start < len(data):
        size, name = struct.unpack(">I4s", data[start : start + 8])
        found[name.decode()] = (start, start + size)
        start += size
    return found


def test_a_signed_film_is_ours_and_says_how_it_was_made(signed: bytes, keys: Path) -> None:
    found = verify(signed, Authority(keys).trust())

    assert found.verdict == "ours"
    assert [one.name for one in found.software] == ["talkface"]
    assert found.source_types == ["trainedAlgorithmicMedia"]
    assert found.created_at is not None
    assert found.timestamp is not None and found.timestamp.state == "missing"
    assert (found.consent, found.problems) == (None, [])


def test_the_librarys_own_reader_agrees_on_the_bare_file(signed: bytes, keys: Path) -> None:
    trust = {"trust_anchors": (keys / "ca.pem").read_text()}
    context = c2pa.Context(c2pa.Settings.from_dict({"trust": trust}))

    with c2pa.Reader("video/mp4", io.BytesIO(signed), context=context) as reader:
        state, told = reader.get_validation_state(), reader.get_active_manifest()

    assert state == "Trusted"
    assert told is not None
    ingredients = {one["instance_id"]: one for one in told["ingredients"]}
    assert f"urn:sha256:{DIGEST}" in ingredients
    # Nothing of the person but digests.
    assert all("thumbnail" not in one for one in [told, *ingredients.values()])
    (action,) = told["assertions"][1]["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["parameters"]["org.talkface.weights_sha256"] == "ab" * 32


def test_a_dubbed_film_was_opened_and_edited(plain: Path, keys: Path) -> None:
    parent = Ingredient(title="video", format="video/mov", sha256=DIGEST, is_parent=True)
    request = REQUEST.model_copy(
        update={
            "source_type": "compositeWithTrainedAlgorithmicMedia",
            "ingredients": (REQUEST.ingredients[0], parent),
            "consent": "stated",
        }
    )

    data, _ = sign(plain, keys, request)

    found = verify(data, Authority(keys).trust())
    assert (found.verdict, found.consent) == ("ours", "stated")
    assert found.source_types == ["compositeWithTrainedAlgorithmicMedia"]
    with c2pa.Reader("video/mp4", io.BytesIO(data)) as reader:
        told = json.loads(reader.json())
    manifest = told["manifests"][told["active_manifest"]]
    actions = next(
        one["data"]["actions"] for one in manifest["assertions"] if "actions" in one["label"]
    )
    assert [one["action"] for one in actions] == ["c2pa.opened", "c2pa.edited"]


def test_players_still_find_the_index_in_front(signed: bytes) -> None:
    names = list(boxes(signed))

    assert names[:2] == ["ftyp", "uuid"]
    assert names.index("moov") < names.index("mdat")


@pytest.mark.parametrize("place", [0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("box", ["mdat", "moov"])
def test_one_flipped_byte_of_the_film_shows(
    signed: bytes, keys: Path, box: str, place: float
) -> None:
    start, end = boxes(signed)[box]
    changed = bytearray(signed)
    changed[start + 8 + int(place * (end - start - 8))] ^= 1

    assert verify(bytes(changed), Authority(keys).trust()).verdict == "tampered"


@pytest.mark.parametrize(
    "part",
    [
        b"trainedAlgorithmicMedia",
        b"talkface-small",
        b"weights_sha256",
        b"urn:sha256:",
        b"claim_generator_info",
        b"instanceID",
        b"c2pa.hash.bmff",
        b"alg",
        b"talkface (self-signed)",
    ],
)
def test_one_flipped_byte_of_the_manifest_shows(signed: bytes, keys: Path, part: bytes) -> None:
    start, end = boxes(signed)["uuid"]
    place = signed.index(part, start, end) + len(part) - 1
    changed = bytearray(signed)
    changed[place] ^= 1

    assert verify(bytes(changed), Authority(keys).trust()).verdict == "tampered"


def test_a_copied_film_has_nothing_left(signed: bytes, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "signed.mp4").write_bytes(signed)
    ffmpeg("-i", tmp_path / "signed.mp4", "-c", "copy", tmp_path / "copy.mp4")

    found = verify((tmp_path / "copy.mp4").read_bytes(), Authority(keys).trust())

    assert found.verdict == "none"
    assert "says nothing about how it was made" in found.summary


def test_an_authority_of_the_same_name_is_unknown(plain: Path, keys: Path, tmp_path: Path) -> None:
    forged, _ = sign(plain, tmp_path / "forged")

    found = verify(forged, Authority(keys).trust())

    assert found.verdict == "unknown_signer"
    assert found.signer is not None and not found.signer.is_known
    assert "the signer is unknown here and calls itself “talkface”" in found.summary


def test_where_nobody_signed_yet_nobody_is_known(signed: bytes) -> None:
    assert verify(signed, Trust()).verdict == "unknown_signer"


def test_the_operators_certificate_is_ours_and_its_authoritys_others_are_not(
    plain: Path, tmp_path: Path
) -> None:
    bought, keys = tmp_path / "bought", tmp_path / "keys"
    mine = Authority(bought).own_identity()
    (tmp_path / "chain.pem").write_text(mine.chain)
    (tmp_path / "key.pem").write_text(mine.key)
    (tmp_path / "key.pem").chmod(0o600)
    settings = {
        "signing_certificates": tmp_path / "chain.pem",
        "signing_key": tmp_path / "key.pem",
    }

    data, credentials = sign(plain, keys, **settings)

    assert credentials.certificate_sha256 == mine.certificate_sha256
    trust = Authority(keys).trust()
    assert verify(data, trust).verdict == "ours"
    # The same authority issues to somebody else.
    (bought / "signer.pem").unlink()
    assert verify(sign(plain, bought)[0], trust).verdict == "unknown_signer"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl plays the clock")
def test_a_time_stamp_is_in_the_file_and_believed_by_who_knows_the_clock(
    plain: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    with time_stamp_server() as clock:
        data, credentials = sign(plain, keys, timestamp_url=clock.url, timestamp_required=True)

    trust = Authority(keys).trust()
    found = verify(data, trust)
    assert (credentials.timestamp, found.verdict) == ("present", "ours")
    assert found.timestamp is not None and found.timestamp.time is not None
    # It is whole and fits the signature, but nobody here knows the clock yet.
    assert found.timestamp.state == "untrusted"
    told_s = datetime.fromisoformat(found.timestamp.time).timestamp()
    assert abs(told_s - time.time()) < 600
    # The library's reader, told whom to believe.
    believed = replace(trust, anchors=trust.anchors + clock.authority)
    stamp = verify(data, believed).timestamp
    assert stamp is not None and stamp.state == "trusted"
    # Ours, told by the setting, of files signed before as well.
    authorities = tmp_path / "clocks.pem"
    authorities.write_text(clock.authority)
    believe_clocks(keys, authorities)
    again = verify(data, Authority(keys).trust())
    assert again.verdict == "ours" and again.timestamp is not None
    assert again.timestamp.state == "trusted"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl plays the clock")
def test_who_vouches_for_times_vouches_for_no_signer(plain: Path, tmp_path: Path) -> None:
    with time_stamp_server() as clock:
        data, _ = sign(plain, tmp_path / "others", timestamp_url=clock.url)
    stranger = (tmp_path / "others" / "ca.pem").read_text()
    ours = Authority(tmp_path / "ours")
    ours.own_identity()
    # The worst case: the stranger's own authority is believed about times.
    ours.remember_clocks(clock.authority + stranger)

    found = verify(data, ours.trust())
    assert found.verdict == "unknown_signer"
    assert found.timestamp is not None and found.timestamp.state == "trusted"


@pytest.mark.parametrize("text", ["", "no certificate", "server"])
def test_time_stamp_authorities_that_are_none_are_refused(
    text: str, keys: Path, tmp_path: Path
) -> None:
    Authority(keys).own_identity()
    path = tmp_path / "clocks.pem"
    path.write_text((keys / "signer.pem").read_text() if text == "server" else text)
    with pytest.raises(AuthorityError, match="expected PEM certificates of authorities"):
        believe_clocks(tmp_path / "keys", path)
    assert Authority(tmp_path / "keys").trust().clock_anchors == ""


def test_a_time_stamp_that_cannot_be_had_is_missing_or_fails(plain: Path, keys: Path) -> None:
    nobody = "http://127.0.0.1:9"

    data, credentials = sign(plain, keys, timestamp_url=nobody)

    assert credentials.timestamp == "missing"
    assert verify(data, Authority(keys).trust()).verdict == "ours"
    with pytest.raises(SigningError, match="the time stamp cannot be had") as caught:
        sign(plain, keys, timestamp_url=nobody, timestamp_required=True)
    assert not caught.value.is_lasting


def test_what_is_no_film_is_not_signed(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")

    with pytest.raises(SigningError, match="cannot be signed"):
        sign(tmp_path / "text.mp4", keys)


class _Counting(http.server.BaseHTTPRequestHandler):
    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/manifest"
    server.shutdown()
    server.server_close()


def test_an_address_in_a_strangers_file_is_not_called(
    plain: Path, keys: Path, address: str, tmp_path: Path
) -> None:
    who = Authority(keys).own_identity()
    info = c2pa.C2paSignerInfo(who.algorithm, who.chain.encode(), who.key.encode(), None)
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": kind}]}
    told = {"assertions": [{"label": "c2pa.actions.v2", "data": actions}]}
    builder = c2pa.Builder(json.dumps(told))
    builder.set_remote_url(address)
    builder.set_no_embed()
    target = tmp_path / "remote.mp4"
    shutil.copy(plain, target)
    with plain.open("rb") as source, target.open("w+b") as out:
        builder.sign(c2pa.Signer.from_info(info), "video/mp4", source, out)
    assert address.encode() in target.read_bytes()

    try:
        verdict = verify(target.read_bytes(), Authority(keys).trust()).verdict
    except UnknownMediaError:
        verdict = "none"

    assert verdict in ("none", "tampered")
    assert _Counting.seen == 0
