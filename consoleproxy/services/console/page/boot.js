// Loads the console. A network that changes on the way loses a file now and then: the page is then loaded again, with the
// token that is still in its address.
const TRIES = 5;
const tries = Number(sessionStorage.getItem("tries") ?? 0);
const $ = (id) => document.getElementById(id);

function reload() {
  sessionStorage.setItem("tries", tries + 1);
  location.reload();
}

try {
  await import("/console/console.js");
  sessionStorage.removeItem("tries");
} catch (error) {
  $("heading").textContent = "The page did not load";
  $("detail").textContent = "Something between here and the proxy lost a part of it.";
  $("again").textContent = "Load again";
  $("again").hidden = false;
  $("again").addEventListener("click", () => { sessionStorage.removeItem("tries"); location.reload(); });
  document.body.dataset.state = "ended";
  $("message").show();
  if (tries < TRIES) setTimeout(reload, 500 * 2 ** tries); else reportError(error);
}
