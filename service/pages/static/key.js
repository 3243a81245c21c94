// The API key: for this tab, or, where somebody asks for it, for this browser.

const NAME = "talkface.key";
const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key");
const keep = document.getElementById("key-keep");
const error = document.getElementById("key-error");
const out = document.getElementById("sign-out");

export const currentKey = () => sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);

export function forgetKey() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
  out.hidden = true;
}

let waiting = null;

/** Resolves when a key was typed in; whoever asks meanwhile waits for the same one. */
export function askForKey(message = "") {
  waiting ??= new Promise((resolve) => {
    error.textContent = message;
    error.hidden = !message;
    field.value = "";
    if (!dialog.open) dialog.showModal();
    document.getElementById("key-form").onsubmit = () => {
      (keep.checked ? localStorage : sessionStorage).setItem(NAME, field.value.trim());
      out.hidden = false;
      waiting = null;
      resolve();
    };
  });
  return waiting;
}

// Without a key nothing can be done here, so the dialog stays; Escape cannot be held back for ever, so it comes again.
dialog.addEventListener("close", () => waiting && dialog.showModal());
out.addEventListener("click", () => {
  forgetKey();
  location.reload();
});
out.hidden = !currentKey();
