// `startAudio` with devices that only count: node devices.mjs MODULE. Prints JSON last.
import { pathToFileURL } from "node:url";

let closed = 0;
globalThis.AudioContext = class {
  state = "running";
  audioWorklet = { addModule: async () => {} };
  async close() {
    if (this.state === "closed") throw new Error("it is closed already"); // as browsers do
    this.state = "closed";
    closed++;
  }
};
globalThis.AudioWorkletNode = class {
  port = { postMessage: () => {}, onmessage: null };
  connect() {}
};
let unhandled = 0;
process.on("unhandledRejection", () => unhandled++);
const { startAudio } = await import(pathToFileURL(process.argv[2]).href);

/** A session of which only the listeners are real. */
class Talk {
  listeners = [];
  on(type, listener) {
    const entry = [type, listener];
    this.listeners.push(entry);
    return () => (this.listeners = this.listeners.filter((each) => each !== entry));
  }
  tell(type) {
    for (const [heard, listener] of [...this.listeners]) if (heard === type) listener({ type });
  }
}

const left = [];
for (const first of ["stop", "end"]) {
  const talk = new Talk();
  const { stop } = await startAudio(talk, { microphone: false });
  for (const what of first === "stop" ? ["stop", "end"] : ["end", "stop"]) {
    if (what === "stop") await stop();
    else talk.tell("closed");
    await new Promise((resolve) => setImmediate(resolve));
  }
  left.push(talk.listeners.length);
}
console.log(JSON.stringify({ closed, unhandled, left }));
