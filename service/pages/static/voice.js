// The field of the voice: a file, a recording, a text, or the seconds of a face that listens.

import { t, size, clock, number } from "./texts.js";
import { acceptDrops, tell } from "./drop.js";
import { Recording } from "./recording.js";
import { drawWave, readPeaks } from "./wave.js";

const limits = document.documentElement.dataset;
const at = (id) => document.getElementById(`voice-${id}`);
const audio = at("audio");
const kinds = [...document.querySelectorAll("input[name=voice-kind]")];

let file = null;
let seconds = null;
let address = "";
let recording = null;
let onChange = () => {};

export const voiceKind = () => kinds.find((kind) => kind.checked).value;

/** Set the field up; `changed` is called whenever something else is to be heard. */
export function prepareVoice(changed) {
  onChange = changed;
  acceptDrops(at("drop"), setVoice);
  at("file").addEventListener("change", ({ target }) => target.files[0] && setVoice(target.files[0]));
  at("clear").addEventListener("click", () => setVoice(null));
  for (const kind of kinds) kind.addEventListener("change", showKind);
  at("record").hidden = !(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);
  at("record").addEventListener("click", toggleRecording);
  showKind();
}

function showKind() {
  for (const part of document.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== voiceKind();
  tell("voice", null);
  onChange();
}

/** Only a portrait can listen. */
export function allowListening(isAllowed) {
  at("listen").hidden = !isAllowed;
  if (!isAllowed && voiceKind() === "seconds") {
    kinds[0].checked = true;
    showKind();
  }
}

/** Take a file, or none. */
export async function setVoice(next, what = "") {
  tell("voice", null);
  if (next && !/^(audio|video)\//.test(next.type) && !/\.(m4a|opus|amr|caf|mkv|aiff?|flac|ogg)$/i.test(next.name)) {
    tell("voice", t("voice.wrong"));
    return;
  }
  if (next && next.size > Number(limits.maxAudioBytes)) {
    tell("voice", t("error.large", { size: size(next.size), limit: size(Number(limits.maxAudioBytes)) }));
    return;
  }
  if (address) URL.revokeObjectURL(address);
  [file, seconds] = [next, null];
  address = next ? URL.createObjectURL(next) : "";
  at("empty").hidden = Boolean(next);
  at("preview").hidden = at("clear").hidden = !next;
  at("drop").classList.toggle("full", Boolean(next));
  at("file").value = at("note").textContent = "";
  kinds[0].checked = true;
  showKind();
  if (!next) {
    audio.removeAttribute("src");
    return;
  }
  audio.src = address;
  const heard = await readPeaks(next);
  if (file !== next) return;
  drawWave(at("wave"), heard?.peaks ?? []);
  seconds = heard?.seconds ?? (Number.isFinite(audio.duration) ? audio.duration : null);
  const length = seconds === null ? t("voice.unknown") : t("voice.length", { seconds: number(seconds) });
  at("note").textContent = [what || next.name, length, size(next.size)].join(" · ");
  checkLength();
}

function checkLength() {
  const most = Number(limits.maxAudioS);
  if (seconds === null) return true;
  if (seconds < 0.2) tell("voice", t("voice.short", { seconds: seconds.toFixed(2) }));
  else if (seconds > most) tell("voice", t("voice.long", { length: clock(seconds), most: clock(most) }));
  else return true;
  return false;
}

async function toggleRecording() {
  if (recording) {
    recording.stop();
    return;
  }
  tell("voice", null);
  try {
    recording = await Recording.begin(at("level"), (elapsed) => {
      at("clock").textContent = clock(elapsed);
      if (elapsed >= Number(limits.maxAudioS)) recording?.stop();
    });
  } catch {
    tell("voice", t("voice.denied"));
    return;
  }
  at("clock").textContent = clock(0);
  showRecording(true);
  const made = await recording.result;
  recording = null;
  showRecording(false);
  setVoice(made, t("voice.recorded"));
}

function showRecording(isOn) {
  at("recording").hidden = !isOn;
  at("empty").hidden = at("preview").hidden = isOn;
  at("record").textContent = t(isOn ? "voice.stop" : "voice.record");
  at("record").classList.toggle("on", isOn);
  at("note").textContent = isOn ? t("voice.now") : "";
}

/** The fields of the form, or null and a message where something is missing. */
export function voiceFields() {
  const kind = voiceKind();
  if (kind === "sound") {
    if (!file) tell("voice", t("voice.missing"));
    return file && checkLength() ? { audio: file } : null;
  }
  if (kind === "text") {
    const text = document.getElementById("text").value.trim();
    if (!text) tell("voice", t("text.missing"));
    const more = { voice: at("name").value.trim(), language: at("language").value.trim() };
    return text ? { text, ...Object.fromEntries(Object.entries(more).filter(([, value]) => value)) } : null;
  }
  const wanted = document.getElementById("seconds");
  if (!wanted.value || !wanted.validity.valid) {
    tell("voice", t("seconds.wrong", { most: number(Number(limits.maxAudioS)) }));
    return null;
  }
  return { seconds: wanted.value };
}

export function focusVoice() {
  at("file").focus();
}
