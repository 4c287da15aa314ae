// The module as an audio worklet, without a sound device: node worklet.mjs MODULE. Prints JSON last.
import { pathToFileURL } from "node:url";

const made = {};
globalThis.AudioWorkletProcessor = class {
  port = { sent: [], postMessage: (message) => this.port.sent.push(message), onmessage: null };
};
globalThis.registerProcessor = (name, processor) => (made[name] = processor);
await import(pathToFileURL(process.argv[2]).href);

const capture = new made["voicebus-capture"]();
for (let block = 0; block < 19; block++) capture.process([[new Float32Array(128).fill(block ? 0.5 : 2)]]);
const frames = capture.port.sent.map((buffer) => new Int16Array(buffer));

const playback = new made["voicebus-playback"]();
const part = { item_id: "a", content_index: 0 };
const other = { item_id: "b", content_index: 0 };
const samples = (value, count) => new Int16Array(count).fill(value).buffer;
const run = (blocks) => {
  let last = null;
  for (let block = 0; block < blocks; block++) playback.process([], [[(last = new Float32Array(128))]]);
  return last;
};
playback.port.onmessage({ data: { part, samples: samples(16384, 4800) } });
playback.port.onmessage({ data: { part: other, samples: samples(-16384, 480_000) } });
const loud = run(1)[0];
run(37);
const after = run(20)[0];
playback.port.onmessage({ data: { stop: other } });
const silent = run(1)[0];
const heard = {};
for (const { part: { item_id }, ms } of playback.port.sent) heard[item_id] = ms;

console.log(JSON.stringify({ sizes: frames.map((frame) => frame.length), clipped: frames[0][0], loud, after, silent, heard }));
