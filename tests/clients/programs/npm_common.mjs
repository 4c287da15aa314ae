// What the programs for Node share: words for an open map, waiting with an end, and a report that leaves audio out.

import { readFileSync } from 'node:fs';

// For one event: a machine with a loaded processor is no failure.
const PATIENCE_MS = 60_000;
// 24 kHz, 16 bit: 100 ms.
const CHUNK = 4800;

// The arguments of the program: one JSON object.
export const given = JSON.parse(process.argv[2]);

// The samples of a file, with `silence` ms behind them, in frames.
export function* chunks(path, silence = 0) {
  const samples = Buffer.concat([readFileSync(path), Buffer.alloc(48 * silence)]);
  for (let start = 0; start < samples.length; start += CHUNK) yield samples.subarray(start, start + CHUNK);
}

// Events in the order in which they came; each is waited for at most so long.
export class Events {
  seen = [];
  #taken = 0;
  #waiting = null;

  add(event) {
    this.seen.push(event);
    this.#waiting?.();
  }

  async next() {
    while (this.#taken === this.seen.length) {
      await new Promise((resolve, reject) => {
        const late = () => reject(new Error(`nothing more came after ${this.seen.map((event) => event.type)}`));
        const timer = setTimeout(late, PATIENCE_MS);
        this.#waiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#waiting = null;
    }
    return this.seen[this.#taken++];
  }

  // Read up to the first event of this type for which `fits` holds; that one.
  async until(type, fits = () => true) {
    for (;;) {
      const event = await this.next();
      if (event.type === type && fits(event)) return event;
    }
  }
}

export function report(seen, more) {
  const shown = seen.map((event) =>
    event.type === 'response.output_audio.delta' ? { ...event, delta: event.delta.length } : event,
  );
  console.log(JSON.stringify({ seen: shown, ...more }));
}
