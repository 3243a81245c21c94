// A video by fetch alone, in a browser or in node (20 or newer):
//
//     node make_video.mjs URL IMAGE AUDIO OUTPUT
//
// In a browser, `import { makeVideo } from "./make_video.mjs"` and hand it the files of two <input type="file">.

/**
 * Send a portrait and a voice, wait, and return the MP4.
 *
 * @param {string} url Where the service is.
 * @param {Blob} image The portrait.
 * @param {Blob} audio The voice.
 * @param {{options?: Record<string, string>, onProgress?: (job: object) => void}} settings
 * @returns {Promise<Blob>}
 */
export async function makeVideo(url, image, audio, { options = {}, onProgress = () => {} } = {}) {
  const form = new FormData();
  // Options first: a wrong one is told before the files are read.
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  form.append("image", image, "image");
  form.append("audio", audio, "audio");
  let job = await answer(fetch(`${url}/v1/talking-face`, {
    method: "POST",
    body: form,
    headers: { "Idempotency-Key": crypto.randomUUID() },
  }));
  while (job.state === "queued" || job.state === "running") {
    onProgress(job);
    job = await answer(fetch(`${url}/v1/jobs/${job.id}?wait=5`));
  }
  if (job.state !== "succeeded") throw new Error(job.error?.detail ?? `the job was ${job.state}`);
  const video = await fetch(`${url}/v1/jobs/${job.id}/content`);
  if (!video.ok) throw new Error((await video.json()).detail);
  return video.blob();
}

/** The job of an answer; what the service says where it refuses. */
async function answer(request) {
  const response = await request;
  const body = await response.json();
  if (!response.ok) throw new Error(`${body.detail} [${body.code}]`);
  return body;
}

if (typeof process !== "undefined" && process.argv[1]?.endsWith("make_video.mjs")) {
  const { readFile, writeFile } = await import("node:fs/promises");
  const [url, image, audio, output] = process.argv.slice(2);
  const file = async (path) => new Blob([await readFile(path)]);
  const video = await makeVideo(url, await file(image), await file(audio), {
    options: { preset: "preview" },
  });
  await writeFile(output, Buffer.from(await video.arrayBuffer()));
}
