// The HTTP API, with the key of whoever signed in.

import { t, has } from "./texts.js";
import { askForKey, currentKey, forgetKey } from "./key.js";

const root = document.documentElement.dataset.root;

/** An answer that says what is wrong (RFC 9457), or a server that does not answer: status 0. */
export class Problem extends Error {
  constructor(body, status) {
    super(sentence(body));
    this.code = body.code ?? "";
    this.errors = body.errors ?? [];
    this.status = status;
  }
}

/** What a person reads of a problem: this language's sentence, or the server's own. */
export function sentence(body) {
  const key = `problem.${body.code}`;
  return has(key) ? t(key) : (body.detail ?? t("error.other", { detail: body.title ?? "" }));
}

/** Ask once; where the key is missing or wrong, ask for it and go on, unless it is `unasked`. */
export async function ask(path, { unasked, ...options } = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(root + path, { ...options, headers: { ...options.headers, ...authorization() } });
    } catch {
      throw new Problem({ detail: t("error.network") }, 0);
    }
    if (answer.ok) return answer;
    const problem = await problemOf(answer.status, () => answer.json());
    if (problem.status !== 401 || unasked) throw problem;
    await signInAgain();
  }
}

export async function facesOf(picture) {
  const form = new FormData();
  form.append("image", picture);
  return (await ask("/v1/faces", { method: "POST", body: form, unasked: true })).json();
}

export const job = async (id) => (await ask(`/v1/jobs/${id}`)).json();
export const cancel = (id) => ask(`/v1/jobs/${id}/cancel`, { method: "POST" });
export const verify = async (file) => (await ask("/v1/verify", { method: "POST", body: file })).json();
export const erase = (id) => ask(`/v1/jobs/${id}`, { method: "DELETE" });

// Links in a job carry a signature where keys are required, and perhaps another host's name: behind a proxy the
// service is told its public address, which need not be the one that this page was opened with.
const signature = (link) => (link.includes("?") ? link.slice(link.indexOf("?")) : "");
export const contentOf = (job) => `${root}/v1/jobs/${job.id}/content${signature(job.links.content ?? "")}`;
export const streamOf = (job) => `${root}/v1/jobs/${job.id}/stream${signature(job.links.stream ?? "")}`;
export const eventsOf = (job) => `${root}/v1/jobs/${job.id}/events${signature(job.links.events)}`;

/**
 * Post a form; `fetch` would not tell how much has been sent.
 *
 * The Idempotency-Key makes it safe to send the same form again after a broken connection: one job.
 */
export async function post(path, form, idempotencyKey, onSent) {
  for (;;) {
    try {
      return await postOnce(path, form, idempotencyKey, onSent);
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      await signInAgain();
    }
  }
}

function postOnce(path, form, idempotencyKey, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", root + path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.setRequestHeader("Idempotency-Key", idempotencyKey);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onload = async () => {
      if (request.status < 400) resolve(request.response);
      else reject(await problemOf(request.status, () => request.response));
    };
    request.onerror = () => reject(new Problem({ detail: t("error.network") }, 0));
    request.send(form);
  });
}

const authorization = () => (currentKey() ? { Authorization: `Bearer ${currentKey()}` } : {});

async function signInAgain() {
  const wasWrong = Boolean(currentKey());
  forgetKey();
  await askForKey(wasWrong ? t("key.wrong") : "");
}

async function problemOf(status, read) {
  let body = null;
  try {
    body = await read();
  } catch {
    // A proxy's page, not ours.
  }
  return new Problem(body ?? { detail: t("error.other", { detail: String(status) }) }, status);
}
