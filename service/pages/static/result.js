// A finished video: it plays, and can be kept, passed on, erased and explained.

import { t, number, size, time } from "./texts.js";
import { contentOf, verify } from "./api.js";

const at = (id) => document.getElementById(`result-${id}`);
const video = at("video");
const STAGES = ["queued", "validating", "detecting", "landmarks", "generating", "encoding", "total"];

/**
 * Show the video of a job that succeeded.
 *
 * @param on {{again, erase, seen}} Called by the buttons; `again` may be null where the face is no longer there.
 *   `seen` says where the video goes on that was watched while it was drawn.
 */
export function showResult(job, on) {
  const { result } = job;
  document.getElementById("job").hidden = false;
  document.getElementById("job-open").hidden = true;
  document.getElementById("job-done").hidden = false;
  const address = contentOf(job);
  video.width = result.width;
  video.height = result.height;
  if (video.getAttribute("src") !== address) video.src = address;
  if (on.seen.time > 0) video.currentTime = on.seen.time;
  // A browser may want a click first; then it waits for one.
  if (on.seen.plays) video.play().catch(() => {});
  video.onerror = () => (at("note").textContent = t("result.unplayable"));
  at("note").textContent = at("verdict").textContent = "";
  const facts = { seconds: number(result.seconds), width: result.width, height: result.height };
  at("facts").textContent = t("result.facts", { ...facts, size: size(result.bytes) });
  at("expires").textContent = job.expires_at ? t("result.expires", { time: time(job.expires_at) }) : "";
  at("download").href = address;
  at("download").download = `talkface-${job.id.slice(0, 8)}.mp4`;
  at("again").hidden = !on.again;
  at("again").onclick = on.again;
  at("link").onclick = () => copyLink(new URL(address, location.href));
  at("erase").onclick = () => confirm(t("result.erase")) && on.erase();
  at("warnings").replaceChildren(...(job.warnings ?? []).map(({ detail }) => element("li", detail)));
  // Only a video that was signed can be verified.
  at("verify").hidden = !result.credentials;
  at("verify").onclick = () => check(address);
  at("details").replaceChildren(...details(job).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

/** Let go of the video, so that nothing of it stays in memory. */
export function hideResult() {
  video.onerror = null;
  video.removeAttribute("src");
  video.load();
  document.getElementById("job-done").hidden = true;
}

/** A small still of a job's video for the list; resolves with "" where there can be none. */
export function videoStill(job, side = 160) {
  return new Promise((resolve) => {
    // Not the one that is shown: only after a seek is it certain that there is a picture to draw.
    const film = document.createElement("video");
    film.muted = true;
    film.onerror = () => resolve("");
    film.onseeked = () => {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = side;
      const edge = Math.min(film.videoWidth, film.videoHeight);
      const [x, y] = [(film.videoWidth - edge) / 2, (film.videoHeight - edge) / 4];
      canvas.getContext("2d").drawImage(film, x, y, edge, edge, 0, 0, side, side);
      resolve(canvas.toDataURL("image/jpeg", 0.8));
      film.removeAttribute("src");
      film.load();
    };
    film.src = contentOf(job);
    film.currentTime = job.result.seconds / 2;
  });
}

/** Send the very file that is played to be verified, and show what is found. */
async function check(address) {
  at("verify").disabled = true;
  at("verdict").textContent = t("verify.now");
  try {
    const file = await (await fetch(address)).blob();
    at("verdict").textContent = (await verify(file)).summary;
  } catch (problem) {
    at("verdict").textContent = problem.message;
  } finally {
    at("verify").disabled = false;
  }
}

async function copyLink(link) {
  const expires = link.searchParams.get("expires");
  try {
    await navigator.clipboard.writeText(link.href);
    at("note").textContent = expires
      ? t("result.copied.until", { time: time(Number(expires) * 1000) })
      : t("result.copied");
  } catch {
    // No clipboard without https; whoever wants the link can still take it from here.
    at("note").textContent = t("result.address", { link: link.href });
  }
}

function details({ id, input, result, timings_s: timings }) {
  const spent = STAGES.filter((stage) => stage in timings).map((stage) => [
    t(`fact.${stage}`),
    `${number(timings[stage])} s`,
  ]);
  const notes = input.audio.notes ?? [];
  return [
    ...spent,
    timings.generating && [t("fact.speed"), t("fact.speed.value", { times: number(timings.generating / result.seconds) })],
    [t("fact.preset"), t(`preset.${input.options.preset}`)],
    [t("fact.seed"), String(input.options.seed)],
    notes.length && [t("fact.notes"), notes.join(" ")],
    result.video?.held_frames.length && [t("fact.held"), number(result.video.held_frames.length)],
    result.sync && [t("fact.sync"), t("fact.sync.value", { agreement: number(result.sync.agreement) })],
    [t("fact.model"), result.model_name],
    result.weights_sha256 && [t("fact.weights"), result.weights_sha256],
    [t("fact.device"), [result.device, result.dtype].join(", ")],
    [t("fact.sha256"), result.sha256],
    result.label && [t("fact.label"), t(`label.${result.label}`)],
    result.credentials && [t("fact.credentials"), result.credentials.manifest],
    [t("fact.job"), id],
  ].filter(Boolean);
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
