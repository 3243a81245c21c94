// A video while it is drawn: it can be played from its first second on, and goes on as the finished file.

import { streamOf } from "./api.js";

const video = document.getElementById("job-live");
const note = document.getElementById("job-live-note");
let shown = null;

/** Show what there is of a job's video, once there is something; a browser that cannot play it shows nothing. */
export function showLive(job) {
  if (shown === job.id || !job.links.stream || !job.frames?.done) return;
  shown = job.id;
  video.onloadeddata = () => {
    video.hidden = note.hidden = false;
    video.scrollIntoView({ block: "nearest", behavior: "smooth" });
  };
  // Its stream has broken off, or cannot be played here; the finished file will come all the same.
  video.onerror = () => (video.hidden = note.hidden = true);
  video.src = streamOf(job);
}

/** Let go of it; what was seen of it, for the finished file to go on from: seconds, and whether it plays. */
export function endLive() {
  const seen = { time: video.currentTime, plays: !video.paused && !video.ended };
  shown = video.onloadeddata = video.onerror = null;
  video.hidden = note.hidden = true;
  if (video.hasAttribute("src")) {
    video.removeAttribute("src");
    video.load();
  }
  return seen;
}
