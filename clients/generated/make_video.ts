// Makes a video with the types that openapi-typescript wrote.
//
//     node make_video.js <url> <image> <audio> <output>

import { readFile, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [url, image, audio, output] = process.argv.slice(2) as [string, string, string, string];
const client = createClient<paths>({ baseUrl: url });

async function file(path: string): Promise<File> {
  return new File([await readFile(path)], basename(path));
}

const form = new FormData();
form.append("preset", "preview");
form.append("image", await file(image));
form.append("audio", await file(audio));

const accepted = await client.POST("/v1/talking-face", {
  // The form is typed by its fields, and a File is none of their types: what is sent is FormData.
  body: {},
  bodySerializer: () => form,
});
if (accepted.error) throw new Error(accepted.error.detail);

async function ended(id: string) {
  for (;;) {
    const answer = await client.GET("/v1/jobs/{job_id}", {
      params: { path: { job_id: id }, query: { wait: 30 } },
      headers: { Accept: "application/json" },
    });
    if (answer.error) throw new Error(answer.error.detail);
    // With another Accept the same address answers with the MP4, hence the string in its type.
    if (typeof answer.data === "string") throw new Error("expected the job, got a video");
    if (answer.data.state !== "queued" && answer.data.state !== "running") return answer.data;
  }
}

const job = await ended(accepted.data.id);
if (job.state !== "succeeded") throw new Error(job.error?.detail ?? job.state);

const video = await client.GET("/v1/jobs/{job_id}/content", {
  params: { path: { job_id: job.id } },
  parseAs: "arrayBuffer",
});
if (video.error) throw new Error(video.error.detail);
await writeFile(output, Buffer.from(video.data as unknown as ArrayBuffer));
