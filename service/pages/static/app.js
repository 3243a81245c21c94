// The page: what is chosen becomes a job, and the job a video.

import { t } from "./texts.js";
import { erase, job as readJob, post } from "./api.js";
import { askForKey, currentKey } from "./key.js";
import { ignoreMisses, tell } from "./drop.js";
import { chosenFace, faceFile, faceIsFilm, facesAreShown, faceStill, prepareFace, setFace, showFaces } from "./face.js";
import { allowListening, focusVoice, prepareVoice, setVoice, voiceFields } from "./voice.js";
import { optionFields, prepareOptions, showOptionsFor } from "./options.js";
import { reason, showMaking, showSending, showStopped, stopWatching, watch } from "./job.js";
import { endLive, showLive } from "./live.js";
import { hideResult, showResult, videoStill } from "./result.js";
import { forget, prepareHistory, remember, remembered } from "./history.js";

const html = document.documentElement;
const form = document.getElementById("form");
const submit = document.getElementById("submit");
const panel = document.getElementById("job");
const example = document.getElementById("example");

// Beside what a mistake is shown, by the field that a problem names, or else by its code.
const PLACES = {
  ...{ image: "face", video: "face", face_index: "face" },
  ...{ audio: "voice", text: "voice", voice: "voice", language: "voice", seconds: "voice" },
  ...{ seed: "seed", lip_strength: "lip_strength", fps: "fps", audio_offset_ms: "audio_offset_ms" },
  ...{ driving_video: "driving_video", label: "label", label_language: "label" },
};
const PLACES_OF_CODES = {
  ...{ no_face_found: "face", several_faces: "face", face_too_small: "face" },
  ...{ face_turned_away: "face", mouth_not_visible: "face" },
  ...{ audio_too_short: "voice", audio_too_long: "voice", speech_unavailable: "voice" },
  ...{ video_too_short: "face", video_too_long: "face" },
};

// Of the form as it is now: sent again unchanged, after a broken connection, it makes no second job.
let idempotencyKey = "";
let shown = null;

const changed = () => (idempotencyKey = "");

prepareFace(() => {
  changed();
  showOptionsFor(faceIsFilm());
  allowListening(!faceIsFilm());
});
prepareVoice(changed);
prepareOptions();
ignoreMisses();
form.addEventListener("input", changed);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
example.addEventListener("click", takeExample);
prepareHistory({ open, erase: eraseJob });
if (html.dataset.keys === "required" && !currentKey()) await askForKey();
addEventListener("hashchange", () => fromAddress());
fromAddress();

function fromAddress() {
  const id = location.hash.slice(1);
  if (/^[0-9a-f]{32}$/.test(id) && id !== shown) open(id);
}

async function takeExample() {
  example.disabled = true;
  const fetched = await Promise.all(
    [["portrait.jpg", "image/jpeg"], ["speech.m4a", "audio/mp4"]].map(async ([name, type]) => {
      const answer = await fetch(`${html.dataset.static}/example/${name}`);
      return new File([await answer.blob()], name, { type });
    }),
  );
  setFace(fetched[0]);
  await setVoice(fetched[1]);
  example.disabled = false;
  submit.focus();
}

/** The form, or null where something is missing; then each field says what. */
function collect() {
  tellForm(null);
  if (!faceFile()) tell("face", t("face.missing"));
  const [voice, options] = [voiceFields(), optionFields()];
  if (!faceFile() || !voice || !options) {
    document.querySelector("[aria-invalid]")?.focus();
    return null;
  }
  const data = new FormData();
  // Options before files: a wrong one is told before a byte of them is sent.
  if (chosenFace()) data.append("face_index", chosenFace());
  const { audio, ...words } = voice;
  const { driving_video: driver, ...rest } = options;
  for (const [name, value] of Object.entries({ ...rest, ...words })) data.append(name, value);
  data.append(faceIsFilm() ? "video" : "image", faceFile());
  if (driver) data.append("driving_video", driver);
  if (audio) data.append("audio", audio);
  return data;
}

async function send() {
  const data = collect();
  if (!data) return;
  submit.disabled = true;
  stopWatching();
  endLive();
  hideResult();
  const [still, face] = [faceStill(), faceFile()];
  showMaking(still);
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  idempotencyKey ||= Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(16)).join("-");
  try {
    const job = await post("/v1/talking-face", data, idempotencyKey, showSending);
    changed();
    remember(job.id, { still });
    follow(job, true);
  } catch (problem) {
    panel.hidden = true;
    // What was wrong with a face that is no longer there need not be told.
    if (placeOf(problem) !== "face" || face === faceFile()) tellProblem(problem);
  } finally {
    submit.disabled = false;
  }
}

/** Watch a job to its end. With `isOfForm` its face and its mistakes belong to what the form shows. */
function follow(job, isOfForm) {
  shown = job.id;
  history.replaceState(null, "", `#${job.id}`);
  // Those that were found before it was sent stay, with the choice among them.
  let hasFaces = facesAreShown();
  watch(job, {
    update: (now) => {
      if (now.state === "running") showLive(now);
      if (!isOfForm || hasFaces || !now.face_boxes || !now.input.image) return;
      hasFaces = true;
      showFaces({ ...now.input.image, boxes: now.face_boxes });
    },
    gone: (problem) => {
      forget(job.id);
      endLive();
      showStopped(problem.message);
    },
    end: (ended) => (ended.result ? finish(ended) : stop(ended, isOfForm)),
  });
}

async function finish(job) {
  showResult(job, {
    seen: endLive(),
    again: faceFile() ? again : null,
    erase: () => eraseJob(job.id),
  });
  document.getElementById("result-title").focus({ preventScroll: true });
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  remember(job.id, { still: remembered(job.id)?.still || (await videoStill(job)) });
}

function stop(job, isOfForm) {
  endLive();
  forget(job.id);
  const place = job.error && placeOf(job.error);
  if (isOfForm && place) {
    panel.hidden = true;
    tellProblem({ ...job.error, message: reason(job) });
    return;
  }
  showStopped(reason(job), isOfForm ? send : null);
}

/** Show a job of the list, or of the address. */
async function open(id) {
  stopWatching();
  endLive();
  hideResult();
  showMaking(remembered(id)?.still);
  panel.scrollIntoView({ block: "nearest", behavior: "smooth" });
  try {
    follow(await readJob(id), false);
  } catch (problem) {
    if (problem.status === 404 || problem.status === 410) forget(id);
    showStopped(problem.message);
  }
}

function again() {
  setVoice(null);
  document.getElementById("voice").scrollIntoView({ block: "nearest", behavior: "smooth" });
  focusVoice();
}

async function eraseJob(id) {
  try {
    await erase(id);
  } catch (problem) {
    if (problem.status !== 404) {
      document.getElementById("result-note").textContent = problem.message;
      return;
    }
  }
  forget(id);
  if (shown !== id) return;
  shown = null;
  stopWatching();
  endLive();
  hideResult();
  panel.hidden = true;
  history.replaceState(null, "", location.pathname + location.search);
}

const placeOf = ({ code, errors = [] }) => PLACES[errors[0]?.field] ?? PLACES_OF_CODES[code];

function tellProblem(problem) {
  const place = placeOf(problem);
  // What is wrong with one field among several is in its own entry.
  const message = problem.code === "invalid_options" ? (problem.errors[0]?.message ?? problem.message) : problem.message;
  if (!place) {
    tellForm(problem.message);
    return;
  }
  tell(place, message);
  const told = document.getElementById(`${place}-error`);
  const fold = told.closest("details");
  if (fold) fold.open = true;
  told.scrollIntoView({ block: "center", behavior: "smooth" });
}

function tellForm(message) {
  const place = document.getElementById("form-error");
  place.textContent = message ?? "";
  place.hidden = !message;
}
