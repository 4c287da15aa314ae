/**
 * Voicebus sessions from JavaScript: the native face (docs/native-face.md) of a gateway, in browsers and in Node 22.
 *
 *   import { connect, startAudio } from "https://voice.example.com/static/voicebus.js";
 *   const session = await connect("https://voice.example.com", { agent: "reception", apiKey });
 *   session.on("transcript_delta", (event) => console.log(event.role, event.text));
 *   const audio = await startAudio(session);          // microphone and loudspeaker, in browsers
 *   await session.sendMessage("Hello");
 *
 * No dependencies. Three parts: `Session`, which speaks the protocol and knows no sound device; `startAudio` with
 * `Microphone` and `Player`, which know nothing of the protocol; and, at the end, the processors that this same file
 * registers where it is loaded as an audio worklet.
 */

/** Close codes after which there is nothing to come back to. */
const FINAL_CODES = new Set([1000, 1008, 4404, 4409]);
/** No room: the end of a join, whose session does not begin; a session that there is goes on where there is room. */
const FULL = 4429;
const TAKEN_OVER = 4409;
/** Of what a page may close with, 1000 hangs up; this one is a loss. */
const GOING_AWAY = 4001;
const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5000;
/** How long a lost connection is tried again: the grace of a gateway that is not configured otherwise. */
const RESUME_FOR_MS = 60_000;
/** What was said and not committed yet: the newest 5 s of it wait for a connection, or are sent again. */
const KEPT_AUDIO_S = 5;
const MAX_PIECES = 5000;
/** Turns that were detected and whose words are not known yet: their sound may have to be said again. */
const MAX_TURNS = 4;
/** What was said while the news of a turn was on its way belongs to the next; no more than the silence that ends one. */
const ON_THE_WAY_S = 0.2;
/** What a gateway that has let another one take its session may still have to say. */
const LAST_FRAMES_MS = 5000;
/** How long the other one may take to greet once the first has said its last. */
const MOVE_MS = 10_000;
/** Events that wait for a loop; beyond that the oldest audio goes first, then the oldest of all. */
const MAX_WAITING = 4096;

/** What the gateway refused, or why there is no session any more. `code` is stable, for programs. */
export class VoicebusError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "VoicebusError";
    this.code = code;
  }
}

/**
 * Connect to a gateway; resolves once the session is there.
 *
 * @param {string} url  the gateway (http, https, ws or wss), or the `url` that POST /v1/sessions gave
 * @param {object} options
 *   agent      the agent's name (absent: the gateway's default one)
 *   apiKey     a credential; a client secret in browsers, never an API key
 *   session, token   enter a session that there is
 *   observe    true: see it, and command nothing
 *   seq        only recorded events above it
 *   audio      "binary" (the speaker's default), "json", or for observers "none" (theirs)
 *   raw        true: the model's own events, too
 *   record     true or false: whether the caller of a new session agrees to be recorded
 *   resumeFor  ms for which a lost connection is tried again; 0: not at all
 *   WebSocket  a class in place of the global one
 * @returns {Promise<Session>} rejected with a VoicebusError
 */
export async function connect(url, options = {}) {
  const session = new Session(url, options);
  await session._open();
  return session;
}

/** One conversation, over as many connections as it takes. Made by `connect`. */
export class Session {
  #options;
  #address;
  #socket = null;
  #listeners = new Map();
  #loops = new Set();
  #part = null;
  #pending = new Map();
  #spoken = new Spoken();
  #second = null; // the connection on which the session goes on: {socket, frames, greeted}
  #told = null; // what came on the first one since the second was asked for
  #moves = 0;
  #sent = 0; // bytes of sound that were sent on the connection in use, and that the session had had before
  #received = 0;
  #prefix = Math.random().toString(36).slice(2, 10);
  #number = 0;
  #greeted;
  #refusal = null;
  #lostAt = null;
  #attempts = 0;
  #timer = null;

  /** "connecting", "open", "moving" (to another gateway), "resuming" or "closed". */
  state = "connecting";
  /** The session's id and token; the token enters the session from anywhere, and is a secret. */
  id = "";
  token = "";
  /** The name of the agent in charge. */
  agent = "";
  /** The formats `{input, output}`. */
  audio = null;
  /** The last recorded event that was read. */
  seq = 0;
  /** The conversation's items, as they are now. */
  history = [];
  /** Why the session ended; null while it has not. */
  endReason = null;
  closeCode = null;

  constructor(url, options) {
    this.#options = { resumeFor: RESUME_FOR_MS, ...options };
    this.#address = nativeAddress(url);
    this.id = options.session ?? this.#address.searchParams.get("session") ?? "";
    this.token = options.token ?? this.#address.searchParams.get("token") ?? "";
    this.seq = options.seq ?? 0;
    this.#greeted = deferred();
    this.#greeted.promise.catch(() => {}); // `_open` tells of it
  }

  /** Hear events of a type, or all of them with "*"; returns a function that ends that. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type)?.delete(listener);
  }

  /** `for await (const event of session)`: every event from now on, until the session is over. */
  async *[Symbol.asyncIterator]() {
    const loop = { waiting: [], wake: null };
    this.#loops.add(loop);
    try {
      for (;;) {
        while (loop.waiting.length) yield loop.waiting.shift();
        if (this.state === "closed") return;
        await new Promise((resolve) => (loop.wake = resolve));
      }
    } finally {
      this.#loops.delete(loop);
    }
  }

  // --- commands: each resolves when the gateway has carried it out, and rejects with what it said instead ----------

  /** Say something for the user: a text, or parts `{type: "input_text"|"input_image", …}`. */
  sendMessage(message) {
    return this.command("send_message", typeof message === "string" ? { text: message } : { content: message });
  }

  /**
   * End a turn of speech, where the agent does not detect that itself. Resolves once its words are known, or its answer
   * was given; the sound is kept until then, for the gateway that goes on should this one die.
   */
  commit() {
    return this.command("commit");
  }

  /** Stop what the agent is saying. */
  interrupt() {
    return this.command("interrupt");
  }

  approve(callId, { always = false } = {}) {
    return this.command("approve", { call_id: callId, always });
  }

  reject(callId, { always = false, message = null } = {}) {
    return this.command("reject", { call_id: callId, always, message });
  }

  updateAgent(name) {
    return this.command("update_agent", { agent: name });
  }

  mute(muted = true) {
    return this.command("mute", { muted });
  }

  /** Whether the caller agrees to be recorded from now on. */
  record(consent = true) {
    return this.command("record", { consent });
  }

  /** End the session, for everybody; resolves once that is written, also where a gateway dies meanwhile. */
  end() {
    return this.command("end");
  }

  /** Any command. One without an answer when its connection is lost is sent again, and carried out once. */
  command(type, fields = {}) {
    if (this.state === "closed") return Promise.reject(this.#over());
    const id = this.#newId();
    const answer = deferred();
    if (type === "commit") this.#spoken.add({ commit: id, size: 0 });
    this.#pending.set(id, { command: { type, id, ...fields }, answer });
    if (this.state === "open") this.#send(this.#pending.get(id).command);
    return answer.promise;
  }

  /** Tell how much of an item the listener has heard, in ms. Not answered. */
  playback(itemId, contentIndex, playedMs) {
    if (this.state !== "open") return;
    this.#send({ type: "playback", item_id: itemId, content_index: contentIndex, played_ms: playedMs });
  }

  /** Send samples (an ArrayBuffer or a view of one) in the session's input format. Not answered. */
  sendAudio(samples) {
    if (this.state === "closed") throw this.#over();
    const open = this.state === "open" && this.#socket.readyState === 1;
    if (open) this.#sendSound(samples);
    // A copy: the caller may fill the same buffer again.
    const kept = ArrayBuffer.isView(samples)
      ? new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength).slice()
      : samples.slice(0);
    this.#spoken.add({ samples: kept, size: kept.byteLength, sent: open });
  }

  /** Hang up: the session ends with its speaker; an observer just leaves. Use `end` to know that it has ended. */
  close() {
    clearTimeout(this.#timer);
    // While the session moves, a connection that is closed is not the end of it: it is asked for on both.
    if (this.#second) this.#endBoth(this.#second);
    this.#second = null;
    this.#socket?.close(1000);
    this.#finish(new VoicebusError("closed", "the session was closed"));
  }

  /** Under one id, so that it is carried out once: by the gateway that has the session, or by the one that gets it. */
  #endBoth({ socket, greeted }) {
    const end = { type: "end", id: this.#newId() };
    if (this.#socket.readyState === 1) this.#send(end);
    const hangUp = () => {
      socket.send(JSON.stringify({ ...end, again: true }));
      socket.close(1000);
    };
    if (greeted) {
      hangUp();
      return;
    }
    // It says nothing before the session has come to it, and is closed where it does not come.
    const patience = setTimeout(() => socket.close(GOING_AWAY), MOVE_MS);
    socket.onmessage = hangUp;
    socket.onclose = () => clearTimeout(patience);
  }

  #newId() {
    return `${this.#prefix}-${++this.#number}`;
  }

  // --- the connection ----------------------------------------------------------------------------------------------

  async _open() {
    this.#dial();
    await this.#greeted.promise;
  }

  #connect() {
    const { apiKey, WebSocket: Socket = globalThis.WebSocket } = this.#options;
    const protocols = apiKey ? ["realtime", `openai-insecure-api-key.${apiKey}`] : [];
    if (typeof Socket !== "function") {
      const what = "there is no WebSocket here: Node 22 or later has one, or give a class as the option WebSocket";
      throw new VoicebusError("no_websocket", what);
    }
    const socket = new Socket(this.#target(), protocols);
    socket.binaryType = "arraybuffer";
    socket.onerror = () => {}; // the close that follows tells
    return socket;
  }

  #dial() {
    this.#use(this.#connect());
  }

  #use(socket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#heard(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#closed(code, reason);
  }

  #heard(data) {
    if (typeof data === "string") this.#text(JSON.parse(data));
    else this.#samples(data);
  }

  /**
   * The gateway stops: open a second connection, for another gateway to take the session on. The first serves on until
   * it is closed; what the second says until then waits.
   */
  #move() {
    if (this.#second || this.state !== "open" || this.#options.observe) return;
    const second = { socket: this.#connect(), frames: [], greeted: false };
    this.#second = second;
    this.#told = new Set();
    second.socket.onmessage = ({ data }) => {
      second.frames.push(data);
      if (second.greeted || typeof data !== "string" || JSON.parse(data).type !== "session_resumed") return;
      second.greeted = true;
      this.#moves = 0;
      if (this.state === "moving") this.#takeSecond();
      else this.#timer = setTimeout(() => this.#leaveFirst(second), LAST_FRAMES_MS);
    };
    second.socket.onclose = ({ code }) => {
      if (this.#second !== second) return;
      this.#second = this.#told = null;
      if (this.state === "moving") this.#lost(code);
      else if (this.state === "open" && !FINAL_CODES.has(code))
        this.#timer = setTimeout(() => this.#move(), delayOf(this.#moves++));
    };
  }

  /** The first connection says nothing more, and was not closed: it is gone. */
  #leaveFirst(second) {
    if (this.#second !== second || this.state !== "open") return;
    const first = this.#socket;
    this.#takeSecond();
    first.close(GOING_AWAY);
  }

  #takeSecond() {
    const { socket, frames } = this.#second;
    clearTimeout(this.#timer);
    this.#second = null;
    this.#use(socket);
    this.state = "moving"; // until the greeting is read
    for (const data of frames) this.#heard(data);
  }

  #target() {
    const target = new URL(this.#address);
    const { agent, observe, audio, raw, record } = this.#options;
    const asked = { audio, raw: raw ? "1" : undefined, observe: observe ? "1" : undefined };
    if (this.id) Object.assign(asked, { session: this.id, token: this.token || undefined, seq: String(this.seq) });
    else Object.assign(asked, { agent, record: record === undefined ? undefined : record ? "1" : "0" });
    const turns = this.state === "resuming" ? this.#spoken.said() : [];
    if (turns.some(([, ms]) => ms)) asked.turns = JSON.stringify(turns);
    for (const [name, value] of Object.entries(asked)) if (value !== undefined) target.searchParams.set(name, value);
    return target.href;
  }

  #closed(code, reason) {
    this.closeCode = code;
    const { resumeFor } = this.#options;
    const lost = new VoicebusError(reason || "connection_lost", this.#refusal ?? `the connection was closed (${code})`);
    const mayReturn = this.id && (this.token || this.#options.observe) && resumeFor && this.state !== "connecting";
    const own = code === TAKEN_OVER && this.#second; // by the second connection of this very client
    const over = (FINAL_CODES.has(code) && !own) || (code === FULL && !this.token);
    if (this.endReason !== null || this.state === "closed" || over || !mayReturn) {
      this.#finish(lost);
      return;
    }
    if (this.#second?.greeted) {
      this.#takeSecond();
      return;
    }
    if (this.#second) {
      this.state = "moving"; // it will be greeted, or closed
      const { socket } = this.#second;
      this.#timer = setTimeout(() => {
        this.#second = this.#told = null;
        socket.close(GOING_AWAY);
        this.#lost(code, lost);
      }, MOVE_MS);
      return;
    }
    this.#lost(code, lost);
  }

  /** There is no connection: open one, after a while. */
  #lost(code, error = new VoicebusError("connection_lost", `the connection was closed (${code})`)) {
    clearTimeout(this.#timer);
    if (this.state === "open" || this.state === "moving") {
      this.state = "resuming";
      this.#lostAt = Date.now();
      this.#attempts = 0;
      this.#emit({ type: "connection_lost", seq: this.seq, session: this.id, code });
    }
    const delay = delayOf(this.#attempts++);
    if (Date.now() + delay > this.#lostAt + this.#options.resumeFor) {
      this.#finish(error);
      return;
    }
    this.#timer = setTimeout(() => this.#dial(), delay);
  }

  #finish(error) {
    if (this.state === "closed") return;
    this.state = "closed";
    clearTimeout(this.#timer);
    const second = this.#second;
    this.#second = null;
    second?.socket.close(GOING_AWAY);
    this.#greeted.reject(error);
    for (const { command, answer } of this.#pending.values()) {
      if (command.type === "end" && this.endReason !== null) answer.resolve();
      else answer.reject(error);
    }
    this.#pending.clear();
    this.#emit({ type: "closed", seq: this.seq, session: this.id, code: this.closeCode, reason: this.endReason });
  }

  #over() {
    return new VoicebusError("session_over", `the session is over (${this.endReason ?? this.closeCode ?? "closed"})`);
  }

  #send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  // --- from the gateway --------------------------------------------------------------------------------------------

  #text(event) {
    if (event.type === "migrate") {
      this.token = event.token ?? this.token;
      this.#move();
      return;
    }
    this.seq = Math.max(this.seq, event.seq ?? 0);
    if (this.#told) {
      const key = `${event.seq} ${event.type} ${event.at}`;
      if (this.#second) this.#told.add(key);
      else if (this.#told.has(key)) return; // it came on the connection that was left
    }
    const known = this.#pending.get(event.id);
    if (known && (event.type === "ack" || event.type === "error")) {
      this.#pending.delete(event.id);
      this.#spoken.committed(event.id);
      if (event.type === "ack") known.answer.resolve();
      else known.answer.reject(new VoicebusError(event.code, event.message));
      return;
    }
    this.#follow(event);
    if (event.type !== "audio" || event.data !== undefined) this.#emit(event);
  }

  /** Keep what the event tells of the session. */
  #follow(event) {
    switch (event.type) {
      case "session_started":
      case "session_resumed":
        if (event.audio) this.#greetedWith(event);
        this.id = event.session;
        this.agent = event.agent;
        if (event.token) this.token = event.token;
        // Less than was read where a gateway died before it had written that: those numbers are given again. Of this
        // connection: the record tells with the same name that some connection came.
        if (event.from_seq !== undefined && (event.token || event.observer)) this.seq = event.from_seq;
        break;
      case "history_updated":
        this.history = event.history;
        this.#arrived();
        break;
      case "history_added": {
        const items = this.history.filter((item) => item.item_id !== event.item.item_id);
        const before = items.findIndex((item) => item.item_id === event.item.previous_item_id);
        items.splice(before < 0 ? items.length : before + 1, 0, event.item);
        this.history = items;
        if (event.item.role === "user" && event.item.content?.some((part) => part.type === "input_audio"))
          this.#spoken.heard(event.item.item_id);
        break;
      }
      case "agent_start":
        this.agent = event.agent;
        break;
      case "handoff":
        this.agent = event.to_agent;
        break;
      case "audio":
        this.#part = event;
        break;
      case "item_recorded":
        this.#spoken.known(event.item_id);
        break;
      case "session_ended":
        this.endReason = event.reason;
        break;
      case "error":
        this.#refusal = event.message;
        break;
    }
  }

  /** What the gateway has heard of what was said; the rest is said again. */
  #greetedWith({ audio, audio_received: received = 0, resend_audio: lost, resend_turns: turns = [] }) {
    this.audio = audio;
    this.#spoken.rate = byteRate(audio);
    if (lost) this.#spoken.lost(turns);
    else this.#spoken.missed(this.#sent - (received - this.#received));
    [this.#sent, this.#received] = [0, received];
  }

  #sendSound(samples) {
    this.#socket.send(samples);
    this.#sent += samples.byteLength;
  }

  /** The greeting is complete: the session is there, or is there again. */
  #arrived() {
    if (this.state === "open" || this.state === "closed") return;
    const again = this.state !== "connecting";
    const lost = this.state === "resuming";
    this.state = "open";
    const command = (id) => {
      const { command } = this.#pending.get(id);
      this.#send(again ? { ...command, again: true } : command);
    };
    for (const id of this.#pending.keys()) if (!this.#spoken.has(id)) command(id);
    for (const piece of this.#spoken.pieces) {
      if (piece.commit !== undefined) {
        if (this.#pending.has(piece.commit)) command(piece.commit); // behind the sound that it commits
      } else if (!piece.sent) {
        this.#sendSound(piece.samples);
        piece.sent = true;
      }
    }
    this.#greeted.resolve();
    if (lost) this.#emit({ type: "connection_resumed", seq: this.seq, session: this.id });
  }

  #samples(data) {
    if (this.#part) this.#emit({ ...this.#part, samples: new Uint8Array(data) });
  }

  #emit(event) {
    for (const type of [event.type, "*"])
      for (const listener of [...(this.#listeners.get(type) ?? [])]) {
        try {
          listener(event);
        } catch (error) {
          queueMicrotask(() => {
            throw error; // the listener's own failure: told, and nothing else stops
          });
        }
      }
    for (const loop of this.#loops) {
      loop.waiting.push(event);
      if (loop.waiting.length > MAX_WAITING) {
        const audio = loop.waiting.findIndex((waiting) => waiting.samples);
        loop.waiting.splice(Math.max(audio, 0), 1);
      }
      loop.wake?.();
    }
  }
}

/** What was said since the last commit, a bounded ring: samples `{samples, size, sent}`, and commits `{commit, size: 0}`. */
class Spoken {
  pieces = [];
  rate = 48_000;
  #size = 0;
  #again = 0; // what is said again beside the newest
  #turns = new Map(); // the pieces of turns whose words are not known yet, by their items, oldest first

  add(piece) {
    this.pieces.push(piece);
    this.#size += piece.size;
    this.trim(KEPT_AUDIO_S);
  }

  /** Keep this much of it, the newest. */
  trim(seconds) {
    const room = seconds * this.rate + this.#again;
    while (this.pieces.length && (this.#size - this.pieces[0].size >= room || this.pieces.length > MAX_PIECES))
      this.#drop();
  }

  /** The model has made a turn of what was said. Of one that was ended by hand its answer tells: `committed`. */
  heard(itemId) {
    if (this.pieces.some(({ commit }) => commit !== undefined)) return;
    const turn = [];
    while (this.#size > ON_THE_WAY_S * this.rate) turn.push(this.#drop());
    this.#again = 0;
    this.#turns.set(itemId, turn);
    if (this.#turns.size > MAX_TURNS) this.#forget();
  }

  /** The words of a turn are known: neither it nor what was said before it is said again. */
  known(itemId) {
    while (this.#turns.has(itemId)) this.#forget();
  }

  /** The turns that could be said again, `[item, ms of its sound]`, oldest first; and what was said since. */
  said() {
    const sizes = [...this.#turns].map(([itemId, turn]) => [itemId, turn.reduce((sum, { size }) => sum + size, 0)]);
    return [...sizes, ["", this.#size]].map(([itemId, size]) => [itemId, Math.floor((size * 1000) / this.rate)]);
  }

  has(id) {
    return this.pieces.some(({ commit }) => commit === id);
  }

  /** The commit of this id was carried out, or refused. */
  committed(id) {
    if (!this.has(id)) return;
    while (this.#drop().commit !== id);
    this.#again = 0;
  }

  /** The newest `size` bytes of what was sent have not arrived. */
  missed(size) {
    for (let place = this.pieces.length - 1; place >= 0 && size > 0; place--) {
      const piece = this.pieces[place];
      if (!piece.sent) continue;
      piece.sent = false;
      size -= piece.size;
    }
  }

  /** Nobody has it any more, nor these turns, which are the last ones: they are to be turns once more. */
  lost(turns) {
    const again = [...this.#turns].flatMap(([itemId, turn]) => (turns.includes(itemId) ? turn : []));
    this.#turns.clear();
    this.pieces.unshift(...again);
    this.#size += again.reduce((sum, piece) => sum + piece.size, 0);
    if (again.length) this.#again = this.#size;
    for (const piece of this.pieces) piece.sent = false;
  }

  #forget() {
    this.#turns.delete(this.#turns.keys().next().value);
  }

  #drop() {
    const piece = this.pieces.shift();
    this.#size -= piece.size;
    return piece;
  }
}

function byteRate(audio) {
  return ["audio/pcmu", "audio/pcma"].includes(audio?.input?.type) ? 8_000 : 48_000;
}

/** How long to wait before an attempt, in ms. */
function delayOf(attempt) {
  return Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
}

function nativeAddress(url) {
  const address = new URL(url);
  const scheme = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[address.protocol];
  if (!scheme) throw new VoicebusError("invalid_url", `${address.protocol} is no address of a gateway`);
  const native = new URL(`${scheme}//${address.host}${address.pathname}${address.search}`);
  if (native.pathname === "/") native.pathname = "/v1/sessions/connect";
  return native;
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

// --- sound devices, in browsers ------------------------------------------------------------------------------------

const RATE = 24_000;
const CAPTURE = "voicebus-capture";
const PLAYBACK = "voicebus-playback";

/**
 * Microphone and loudspeaker for a session: what is said goes out, what comes is played, interruptions stop it, and the
 * gateway is told what was heard. Call it in answer to a click: browsers play nothing before one.
 *
 * @returns {Promise<{microphone: Microphone|null, player: Player, stop: () => Promise<void>}>}
 */
export async function startAudio(session, { microphone: wanted = true, constraints = {} } = {}) {
  for (const side of ["input", "output"]) {
    const format = session.audio?.[side]?.type ?? "audio/pcm";
    if (format !== "audio/pcm") throw new VoicebusError("unsupported_format", `${format} cannot be played here`);
  }
  const context = new AudioContext({ sampleRate: RATE });
  await context.audioWorklet.addModule(import.meta.url);
  const player = new Player(context, (part, playedMs) =>
    session.playback(part.item_id, part.content_index, playedMs),
  );
  const off = [
    session.on("audio", (event) => event.samples && player.play(event, event.samples)),
    session.on("audio_interrupted", (event) => player.stop(event)),
  ];
  const microphone = wanted ? await Microphone.open(context, (samples) => session.sendAudio(samples), constraints) : null;
  const stop = async () => {
    off.forEach((end) => end());
    microphone?.close();
    if (context.state !== "closed") await context.close();
  };
  off.push(session.on("closed", stop));
  return { microphone, player, stop };
}

/** The microphone as 16 bit samples at 24 kHz, 50 ms at a time. */
export class Microphone {
  static async open(context, heard, constraints = {}) {
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...constraints };
    const stream = await navigator.mediaDevices.getUserMedia({ audio });
    const node = new AudioWorkletNode(context, CAPTURE, { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => heard(data);
    context.createMediaStreamSource(stream).connect(node);
    return new Microphone(stream, node);
  }

  constructor(stream, node) {
    this.stream = stream;
    this.node = node;
  }

  close() {
    // A piece may be on its way, and nobody is there to hear it.
    this.node.port.onmessage = null;
    this.node.disconnect();
    this.stream.getTracks().forEach((track) => track.stop());
  }
}

/** Plays parts one after another; `played(part, ms)` tells how much of each was heard. */
export class Player {
  constructor(context, played) {
    this.node = new AudioWorkletNode(context, PLAYBACK, { numberOfInputs: 0, outputChannelCount: [1] });
    this.node.port.onmessage = ({ data }) => played(data.part, data.ms);
    this.node.connect(context.destination);
  }

  play(event, samples) {
    const part = { item_id: event.item_id, content_index: event.content_index };
    const whole = samples.slice(0, samples.byteLength - (samples.byteLength % 2));
    this.node.port.postMessage({ part, samples: whole.buffer }, [whole.buffer]);
  }

  /** Drop what is left of a part; without one, of everything. */
  stop(event = null) {
    this.node.port.postMessage({ stop: event && { item_id: event.item_id, content_index: event.content_index } });
  }
}

// --- the same file as an audio worklet -----------------------------------------------------------------------------

if (typeof registerProcessor === "function") {
  const FRAMES = RATE / 20;
  const REPORT_FRAMES = RATE / 10;
  const same = (one, other) => one.item_id === other.item_id && one.content_index === other.content_index;

  class Capture extends AudioWorkletProcessor {
    #frames = new Int16Array(FRAMES);
    #filled = 0;

    process([input]) {
      for (const value of input[0] ?? []) {
        this.#frames[this.#filled++] = Math.max(-1, Math.min(1, value)) * 32767;
        if (this.#filled === FRAMES) {
          const { buffer } = this.#frames;
          this.port.postMessage(buffer, [buffer]);
          this.#frames = new Int16Array(FRAMES);
          this.#filled = 0;
        }
      }
      return true;
    }
  }

  class Playback extends AudioWorkletProcessor {
    #chunks = []; // {part, samples, read}
    #part = null;
    #played = 0; // frames of #part
    #told = 0;

    constructor() {
      super();
      this.port.onmessage = ({ data }) => {
        if (data.samples) this.#chunks.push({ part: data.part, samples: new Int16Array(data.samples), read: 0 });
        else this.#chunks = data.stop ? this.#chunks.filter((chunk) => !same(chunk.part, data.stop)) : [];
      };
    }

    process(_, [[output]]) {
      for (let frame = 0; frame < output.length; frame++) {
        const chunk = this.#chunks[0];
        if (!chunk) break;
        if (!this.#part || !same(this.#part, chunk.part)) {
          this.#tell();
          [this.#part, this.#played, this.#told] = [chunk.part, 0, 0];
        }
        output[frame] = chunk.samples[chunk.read++] / 32768;
        this.#played++;
        if (chunk.read === chunk.samples.length) this.#chunks.shift();
      }
      if (this.#played - this.#told >= REPORT_FRAMES || !this.#chunks.length) this.#tell();
      return true;
    }

    #tell() {
      if (this.#part && this.#played > this.#told) {
        this.#told = this.#played;
        this.port.postMessage({ part: this.#part, ms: (this.#played * 1000) / RATE });
      }
    }
  }

  registerProcessor(CAPTURE, Capture);
  registerProcessor(PLAYBACK, Playback);
}
