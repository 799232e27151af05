// Says so when the coordinator's page does not answer any more.
document.addEventListener("htmx:afterRequest", (event) => {
  document.getElementById("lost").hidden = event.detail.successful;
});
