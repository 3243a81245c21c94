// The API's documentation: Swagger UI on this server's own openapi.json.

const { root } = document.documentElement.dataset;

document.documentElement.classList.toggle("dark-mode", matchMedia("(prefers-color-scheme: dark)").matches);
SwaggerUIBundle({
  url: `${root}/openapi.json`,
  domNode: document.getElementById("swagger"),
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  // Its badge is drawn by somebody else's server.
  validatorUrl: null,
});
