// Conversations that Node holds with the module: node conversations.mjs MODULE SCENARIO URL [JSON]. Prints JSON last.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [module, scenario, url, given = "{}"] = process.argv.slice(2);
const { connect, VoicebusError } = await import(pathToFileURL(module).href);
const options = JSON.parse(given);

const until = (session, type, wanted = () => true) =>
  new Promise((resolve, reject) => {
    const off = [
      session.on(type, (event) => wanted(event) && finish(() => resolve(event))),
      session.on("closed", () => finish(() => reject(new Error(`closed before ${type}`)))),
    ];
    const finish = (then) => {
      off.forEach((end) => end());
      then();
    };
  });
const said = (text) => (event) => event.output === text;
const refusal = async (promise) => {
  try {
    await promise;
    return null;
  } catch (error) {
    if (!(error instanceof VoicebusError)) throw error;
    return error.code;
  }
};
const users = (session) => session.history.filter((item) => item.role === "user").length;

const scenarios = {
  async text() {
    const session = await connect(url, { agent: "porter", ...options });
    const seen = [];
    session.on("*", (event) => seen.push(event));
    let looped = 0;
    const loop = (async () => {
      for await (const event of session) looped += event ? 1 : 0;
    })();
    const answered = until(session, "agent_end", said("Good morning"));
    await session.sendMessage("[[say: Good morning]]");
    await answered;
    const unknown = await refusal(session.updateAgent("nobody"));
    await session.updateAgent("reception");
    const handedOver = until(session, "agent_end");
    await session.sendMessage([{ type: "input_text", text: "[[say: at the desk]]" }]);
    await handedOver;
    const noCall = await refusal(session.approve("c1"));
    const { agent, id, token, history } = session;
    const ended = until(session, "session_ended");
    await session.end();
    await ended;
    await loop;
    const late = await refusal(session.sendMessage("anybody?"));
    const seqs = seen.map((event) => event.seq);
    return {
      agent, id, token: token.length, unknown, noCall, late, looped: looped === seen.length,
      kinds: [...new Set(seen.map((event) => event.type))],
      bytes: seen.reduce((sum, event) => sum + (event.samples?.byteLength ?? 0), 0),
      roles: history.map((item) => item.role),
      ordered: seqs.every((seq, place) => place === 0 || seq >= seqs[place - 1]),
      end: [session.state, session.endReason, session.closeCode],
    };
  },

  async audio() {
    const session = await connect(url, options);
    const heard = until(session, "agent_end");
    for (let frame = 0; frame < 20; frame++) session.sendAudio(new Int16Array(1200).fill(frame));
    await session.commit();
    await heard;
    await session.mute(true);
    const begun = until(session, "audio");
    await session.sendMessage(`[[say: ${"word ".repeat(100)}]]`);
    const { item_id, content_index, samples } = await begun;
    session.playback(item_id, content_index, 200);
    const stopped = until(session, "audio_interrupted", (event) => event.item_id === item_id);
    await session.interrupt();
    const cut = await stopped;
    session.close();
    return { same: cut.item_id === item_id, bytes: samples.byteLength, state: session.state, users: users(session) };
  },

  async resume() {
    const session = await connect(url, options);
    const recorded = [];
    session.on("item_recorded", (event) => recorded.push(event.seq));
    const links = [];
    for (const type of ["connection_lost", "connection_resumed"]) session.on(type, () => links.push(type));
    const lost = until(session, "connection_lost");
    const back = until(session, "connection_resumed");
    await session.sendMessage("[[say: before]]");
    await lost; // the test cuts
    const while_away = session.sendMessage("[[say: after]]");
    session.sendAudio(new Int16Array(2400));
    const answered = until(session, "agent_end", said("after"));
    await back;
    await while_away;
    await answered;
    const result = { links, users: users(session), state: session.state };
    session.close();
    return { ...result, once: new Set(recorded).size === recorded.length };
  },

  async flap() {
    const asked = [];
    class Socket extends WebSocket {
      constructor(address, ...rest) {
        super(address, ...rest);
        asked.push([...new URL(address).searchParams.keys()]);
      }
    }
    const session = await connect(url, { ...options, agent: "porter", WebSocket: Socket });
    const recorded = [];
    const isRecorded = ({ type, token }) => ["item_recorded", "turn_ended", "session_resumed"].includes(type) && !token;
    session.on("*", (event) => isRecorded(event) && recorded.push(`${event.seq} ${event.type}`));
    // The test cuts; a connection may be gone before its greeting was read, so what was recorded of them counts.
    const back = until(session, "*", () => recorded.filter((event) => event.includes("session_resumed")).length === 3);
    await session.sendMessage("[[say: before]]");
    await back;
    const answered = until(session, "agent_end", said("after"));
    await session.sendMessage("[[say: after]]");
    await answered;
    session.close();
    return { asked, recorded, once: new Set(recorded).size === recorded.length };
  },

  async detected() {
    const { sound, ...rest } = options;
    const session = await connect(url, rest);
    const words = until(session, "item_recorded", (event) => event.role === "user");
    const answered = until(session, "item_recorded", (event) => event.text === "I have thought");
    const turn = until(session, "history_added", (event) => event.item.role === "user");
    const lost = until(session, "connection_lost");
    const samples = readFileSync(sound);
    for (let start = 0; start < samples.length; start += 4800) session.sendAudio(samples.subarray(start, start + 4800));
    await turn;
    await lost; // the test kills the gateway
    for (let frame = 0; frame < 70; frame++) session.sendAudio(new Int16Array(2400));
    await answered;
    const result = { words: (await words).text, users: users(session) };
    session.close();
    return result;
  },

  async move() {
    const session = await connect(url, options);
    const seen = [];
    session.on("*", (event) => seen.push(event));
    const kinds = (...wanted) => seen.filter((event) => wanted.includes(event.type));
    const moved = until(session, "session_resumed");
    const before = until(session, "agent_end", said("before"));
    await session.sendMessage("[[say: before]]");
    await before; // the test stops the gateway
    const microphone = setInterval(() => session.sendAudio(new Int16Array(1200)), 50);
    const { resend_audio } = await moved;
    const after = until(session, "item_recorded", (event) => event.text === "after");
    await session.sendMessage("[[say: after]]");
    await after;
    clearInterval(microphone);
    const result = {
      resend_audio,
      links: kinds("connection_lost", "connection_resumed").length,
      recorded: kinds("item_recorded", "turn_ended", "model_reconnected").map((event) => event.seq),
      said: kinds("item_recorded").map((event) => event.text),
      state: session.state,
    };
    session.close();
    return result;
  },

  async close_while_moving() {
    // Closed as soon as it is asked to move: while the second connection is dialled, or (`greeted`) once it has the session.
    let waiting = () => {};
    const sent = [];
    class Watched extends WebSocket {
      constructor(...given) {
        super(...given);
        this.addEventListener("message", ({ data }) => typeof data === "string" && waiting(JSON.parse(data)));
      }
      send(frame) {
        if (typeof frame === "string") sent.push(JSON.parse(frame));
        super.send(frame);
      }
    }
    const { when, ...rest } = options;
    const session = await connect(url, { ...rest, WebSocket: Watched });
    const before = until(session, "agent_end", said("before"));
    await session.sendMessage("[[say: before]]");
    await before; // the test stops the gateway
    await new Promise((resolve) => (waiting = ({ type }) => type === when && setImmediate(resolve)));
    session.close();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const ends = sent.filter(({ type }) => type === "end");
    return { state: session.state, ends: [...new Set(ends.map(({ id }) => id ?? "unnamed"))] };
  },

  async consent() {
    const session = await connect(url, { record: false, ...options });
    const code = await refusal(session.record(true));
    const closed = until(session, "closed");
    await session.end();
    await closed;
    return { code, state: session.state, reason: session.endReason };
  },

  async given_up() {
    const session = await connect(url, { ...options, resumeFor: 300 });
    const lost = until(session, "connection_lost");
    session.sendMessage("[[say: before]]").catch(() => {}); // its answer may still be on its way then
    await lost; // the test cuts, and lets nobody in again
    const pending = await refusal(session.sendMessage("anybody?"));
    return { pending, state: session.state };
  },

  async observe() {
    const observer = await connect(url, { observe: true, ...options });
    const code = await refusal(observer.end());
    const { samples } = await until(observer, "audio");
    observer.close();
    return { code, bytes: samples.byteLength, token: observer.token };
  },

  async refused() {
    return { code: await refusal(connect(url, options)) };
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
process.exit(0);
