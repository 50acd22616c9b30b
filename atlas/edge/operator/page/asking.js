// Speaks to the listener that this page came from, and to nobody else.

const KEPT = "atlas-operator-token";
const dialog = document.getElementById("token");
const unlock = document.getElementById("unlock");
let waiting = null; // for somebody to type the token; one dialog, whoever asks

// The answer. Where a token is wanted, it waits until there is the right one.
export async function ask(path, given = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEPT);
    const answer = await fetch(path, {
      ...given,
      headers: token === null ? {} : { Authorization: `Bearer ${token}` },
    });
    if (answer.status !== 401) return answer;
    if (token === sessionStorage.getItem(KEPT)) await newToken(token !== null);
  }
}

function newToken(wasWrong) {
  waiting ??= new Promise((resolve) => {
    sessionStorage.removeItem(KEPT);
    document.getElementById("wrong").textContent = wasWrong ? "That is not the token." : "";
    const field = dialog.querySelector("input");
    field.value = "";
    unlock.hidden = false;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("form").onsubmit = () => {
      // what no header can carry is not the token, either
      sessionStorage.setItem(KEPT, field.value.replace(/[^!-~]/g, "?"));
      unlock.hidden = true;
      waiting = null;
      resolve();
    };
  });
  return waiting;
}

unlock.onclick = () => dialog.showModal();

// The messages of a stream of events; each comes as its text. EventSource could bring no token.
export async function* messages(answer, stir) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    stir();
    const events = (text + value).split(/\r?\n\r?\n/);
    text = events.pop();
    for (const event of events) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

// What the listener says is wrong.
export async function refusal(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `The listener answered ${answer.status}.`;
  }
}
