// A job on its way: stage, place and time left, told by events, or asked for where there are none.

import { t, number, percent, roughly, has } from "./texts.js";
import { cancel, eventsOf, job as readJob, sentence } from "./api.js";

const at = (id) => document.getElementById(`job-${id}`);
const ENDED = ["succeeded", "failed", "cancelled"];
// Place and time left come with no event.
const ASK_EVERY_MS = 2000;

let watched = null;

/**
 * Watch a job until it has ended; the one before is let go.
 *
 * @param first The job object as it was answered.
 * @param on {{update, end, gone}} Called with each job object, with the last one, and where there is no job any more.
 */
export function watch(first, on) {
  stopWatching();
  const mine = { id: first.id, job: first, stream: null, timer: 0 };
  watched = mine;

  const take = (job) => {
    if (watched !== mine) return;
    mine.job = job;
    on.update?.(job);
    show(job);
    if (ENDED.includes(job.state)) {
      stopWatching();
      on.end(job);
    }
  };
  const look = async () => {
    clearTimeout(mine.timer);
    try {
      take(await readJob(mine.id));
    } catch (problem) {
      if (watched !== mine) return;
      if (problem.status === 404 || problem.status === 410) {
        stopWatching();
        on.gone(problem);
        return;
      }
      at("left").textContent = problem.status ? problem.message : t("job.lost");
    }
    if (watched === mine) mine.timer = setTimeout(look, ASK_EVERY_MS);
  };

  at("cancel").onclick = async () => {
    at("cancel").disabled = true;
    try {
      await cancel(mine.id);
      at("stage").textContent = t("job.stopping");
    } catch {
      // It has ended meanwhile, which the next look tells.
    }
    look();
  };
  at("cancel").disabled = false;
  take(first);
  if (watched !== mine) return;
  mine.timer = setTimeout(look, ASK_EVERY_MS);
  // An EventSource sends no key; the address has a signature where one is needed.
  mine.stream = new EventSource(eventsOf(first));
  const onEvent = ({ data }) => take({ ...mine.job, ...JSON.parse(data) });
  for (const name of ["state", "progress", "job"]) mine.stream.addEventListener(name, onEvent);
  mine.stream.addEventListener("deleted", look);
  // It tries again by itself; where it gave up, asking goes on all the same.
  mine.stream.addEventListener("error", () => mine.stream?.readyState === EventSource.CLOSED && look());
}

export function stopWatching() {
  if (!watched) return;
  clearTimeout(watched.timer);
  watched.stream?.close();
  watched = null;
}

/** Show how much of a form has been sent. */
export function showSending(share) {
  at("progress").value = share;
  setText("stage", t("sending"));
  at("left").textContent = share < 1 ? t("sent", { percent: percent(share) }) : "";
}

/** Begin to show a new job, or one that is shown again. */
export function showMaking(still) {
  document.getElementById("job").hidden = false;
  at("open").hidden = false;
  at("done").hidden = at("retry").hidden = at("error").hidden = true;
  at("title").textContent = t("job.title");
  at("progress").hidden = at("cancel").hidden = false;
  at("cancel").disabled = true;
  at("thumb").hidden = !still;
  if (still) at("thumb").src = still;
  showSending(0);
}

/** Show that there will be no video. */
export function showStopped(message, onRetry) {
  at("title").textContent = t("job.stopped");
  at("progress").hidden = at("cancel").hidden = true;
  setText("stage", "");
  at("left").textContent = "";
  at("error").textContent = message;
  at("error").hidden = !message;
  at("retry").hidden = !onRetry;
  at("retry").onclick = onRetry;
}

/** Why a job ended without a video. */
export const reason = (job) => (job.error ? sentence(job.error) : t("job.cancelled"));

function show(job) {
  const stage = job.stage && has(`job.${job.stage}`) ? job.stage : job.state;
  setText("stage", t(`job.${has(`job.${stage}`) ? stage : "running"}`));
  const bar = at("progress");
  if (job.state === "queued" || !job.progress) bar.removeAttribute("value");
  else bar.value = job.progress;
  at("left").textContent = [place(job), frames(job), left(job)].filter(Boolean).join(" · ");
}

function place({ state, queue_position: before }) {
  if (state !== "queued" || before === null) return "";
  return before === 0 ? t("job.next") : t("job.place", { place: number(before + 1) });
}

const frames = ({ frames: count }) => (count ? t("job.frames", { done: count.done, total: count.total }) : "");
const left = ({ eta_s: seconds }) => (seconds === null ? "" : t("job.left", { time: roughly(seconds) }));

// A live region is read out when it changes, so it changes only when there is something to tell.
function setText(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}
