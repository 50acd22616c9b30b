// Requests to the listener that served this page, and to no other server.

const TOKEN_KEY = "atlas-operator-token";
const dialog = document.getElementById("token");
const unlock = document.getElementById("unlock");
let tokenEntered = null; // a promise, shared by all requests that wait for the token

// Fetch a path. If the listener needs a token, wait until the right one was entered.
export async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const response = await fetch(path, {
      ...options,
      headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    });
    if (response.status !== 401) return response;
    if (token === sessionStorage.getItem(TOKEN_KEY)) await requestToken(token !== null);
  }
}

function requestToken(wasWrong) {
  tokenEntered ??= new Promise((resolve) => {
    sessionStorage.removeItem(TOKEN_KEY);
    document.getElementById("token-error").textContent = wasWrong ? "Wrong token." : "";
    const field = dialog.querySelector("input");
    field.value = "";
    unlock.hidden = false;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("form").onsubmit = () => {
      // characters that a header cannot carry make the token wrong, not the request fail
      sessionStorage.setItem(TOKEN_KEY, field.value.replace(/[^!-~]/g, "?"));
      unlock.hidden = true;
      tokenEntered = null;
      resolve();
    };
  });
  return tokenEntered;
}

unlock.onclick = () => dialog.showModal();

// Yield the data of server-sent events as text. EventSource cannot send a token.
export async function* readEvents(response, onData) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onData();
    const events = (text + value).split(/\r?\n\r?\n/);
    text = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

// Read the message of an error response.
export async function readError(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The listener answered ${response.status}.`;
  }
}
