// Places where files can be dropped, and what both fields say.

/** Let a file be dropped on an element, and tell which. */
export function acceptDrops(element, onFile) {
  element.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.items].some((item) => item.kind === "file")) return;
    event.preventDefault();
    element.classList.add("over");
  });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
  });
}

/** A file beside its mark is opened by the browser, and the page is gone: do not. */
export function ignoreMisses() {
  for (const name of ["dragover", "drop"]) {
    addEventListener(name, (event) => event.preventDefault());
  }
}

/** Show what is wrong beside a field, or that nothing is. */
export function tell(name, message) {
  const place = document.getElementById(`${name}-error`);
  place.textContent = message ?? "";
  place.hidden = !message;
  for (const field of document.querySelectorAll(`[aria-describedby~="${name}-error"]`)) {
    const isMeant = Boolean(message) && !field.closest("[hidden]");
    if (isMeant) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
  }
  place.closest(".card, .option")?.classList.toggle("wrong", Boolean(message));
}

export const isFilm = (file) => /^video\//.test(file.type) || /\.(mkv|ts|avi|mpe?g|flv|wmv)$/i.test(file.name);
