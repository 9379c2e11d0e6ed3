// Waits for a console proxy to start, and goes to the console there.
const $ = (id) => document.getElementById(id);

// Taken out of the address at once: it must not be in the history, a bookmark or a screenshot.
const token = location.hash.slice(1) || sessionStorage.getItem("starting") || "";
history.replaceState(null, "", location.pathname);
sessionStorage.setItem("starting", token);

function ended(heading, detail) {
  sessionStorage.removeItem("starting");
  document.body.dataset.state = "ended";
  $("heading").textContent = heading;
  $("detail").textContent = detail;
}

async function ask() {
  const answer = await fetch("/client/console/ready", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }), cache: "no-store",
  });
  return answer.json();
}

async function poll() {
  let answer = { state: "starting" };
  try {
    answer = await ask();
  } catch { /* the cloud does not answer for a moment */ }
  if (answer.state === "ready") {
    sessionStorage.removeItem("starting");
    location.replace(answer.url);
  } else if (answer.state === "starting") {
    setTimeout(poll, 1000);
  } else {
    ended("The console cannot be opened", answer.detail);
  }
}

poll();
