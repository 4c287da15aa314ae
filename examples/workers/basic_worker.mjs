// A tool worker at the basic level of the stream contract, in plain Node: no packages, Redis's protocol over a socket.
//
// It reads calls from its queue, answers each, and acknowledges it. It sends no heartbeats: a call that it holds for 30 s
// is taken from it, so its tools should be quick. Where Redis is lost it ends with status 1, and whoever runs it starts it
// again. docs/contract.md says what travels.
//
//     REDIS_URL=redis://127.0.0.1:6379/0 node basic_worker.mjs

import { randomUUID } from 'node:crypto';
import net from 'node:net';
import { setTimeout } from 'node:timers/promises';

const QUEUE = 'depot';
const NAME = process.env.WORKER ?? 'depot-node'; // the same after a restart; another one for a second process
const PREFIX = process.env.VOICEBUS_STREAM_PREFIX ?? 'vb';
const STREAM = `${PREFIX}:tools:{${QUEUE}}`;
const DEAD = `${PREFIX}:dead:{${QUEUE}}`;
const REGISTRY = `${PREFIX}:registry:tools`;

const TOOLS = {
  stock: {
    description: 'Tell how much of an item is in the depot.',
    parameters: {
      type: 'object',
      properties: { item: { type: 'string', description: 'What is asked for.' } },
      required: ['item'],
      additionalProperties: false,
    },
    run: ({ item }) => `${item.length * 10} ${item} in stock`,
  },
};

// --- a client of Redis, as small as this needs it -------------------------------------------------

class Redis {
  #socket;
  #read = Buffer.alloc(0);
  #waiting = [];
  #lost = null;

  static async connect(url) {
    const { hostname, port, username, password, pathname } = new URL(url);
    const client = new Redis();
    client.#socket = net.connect({ host: hostname, port: Number(port || 6379) });
    client.#socket.on('data', (data) => client.#receive(data));
    client.#socket.on('close', () => {
      client.#lost = new Error('the connection to Redis was lost');
      client.#waiting.splice(0).forEach(({ reject }) => reject(client.#lost));
    });
    await new Promise((resolve, reject) => client.#socket.once('connect', resolve).once('error', reject));
    if (password) await client.call('AUTH', ...(username ? [username] : []), decodeURIComponent(password));
    if (pathname.length > 1) await client.call('SELECT', pathname.slice(1));
    return client;
  }

  call(...parts) {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const bulk = parts.map((part) => `$${Buffer.byteLength(String(part))}\r\n${part}\r\n`);
    this.#socket.write(`*${parts.length}\r\n${bulk.join('')}`);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  close() {
    this.#socket.end();
  }

  #receive(data) {
    this.#read = Buffer.concat([this.#read, data]);
    for (;;) {
      const parsed = parse(this.#read, 0);
      if (parsed === null) return;
      this.#read = this.#read.subarray(parsed.end);
      const { resolve, reject } = this.#waiting.shift();
      if (parsed.value instanceof Error) reject(parsed.value);
      else resolve(parsed.value);
    }
  }
}

function parse(buffer, start) {
  const line = buffer.indexOf('\r\n', start);
  if (line < 0) return null;
  const kind = String.fromCharCode(buffer[start]);
  const text = buffer.toString('utf8', start + 1, line);
  let end = line + 2;
  if (kind === '+') return { value: text, end };
  if (kind === '-') return { value: new Error(text), end };
  if (kind === ':') return { value: Number(text), end };
  const size = Number(text);
  if (size < 0) return { value: null, end };
  if (kind === '$') {
    if (buffer.length < end + size + 2) return null;
    return { value: buffer.toString('utf8', end, end + size), end: end + size + 2 };
  }
  const values = [];
  for (let n = 0; n < size; n += 1) {
    const item = parse(buffer, end);
    if (item === null) return null;
    values.push(item.value);
    end = item.end;
  }
  return { value: values, end };
}

const pairs = (object) => Object.entries(object).flat();
const object = (flat) => Object.fromEntries(flat.flatMap((key, n) => (n % 2 ? [] : [[key, flat[n + 1]]])));

// --- the worker -----------------------------------------------------------------------------------

function ends(error) {
  console.error(`worker ends: ${error.message}`);
  process.exit(1);
}
process.on('uncaughtException', ends);

const redis = await Redis.connect(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379/0');
let stopping = false;
process.on('SIGTERM', () => { stopping = true; });

async function now() {
  const [seconds, microseconds] = await redis.call('TIME');
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}

// Without heartbeats a registration counts for five minutes, so it is made again each minute.
async function register() {
  for (const [name, { description, parameters }] of Object.entries(TOOLS)) {
    const registration = {
      name, description, parameters, queue: QUEUE, version: '1', timeout_ms: 10_000,
      idempotent: false, needs_approval: false, workers: [NAME], at: await now(),
    };
    await redis.call('HSET', REGISTRY, name, JSON.stringify(registration));
  }
}

async function answer(fields, call, outcome, output, error = null) {
  const result = { call_id: call.call_id, outcome, output, error, worker: NAME, duration_ms: 0 };
  const { session, epoch, traceparent } = fields;
  const entry = {
    v: '1', id: randomUUID(), type: 'tool.result', session, epoch, at: await now(), data: JSON.stringify(result),
    ...(traceparent ? { traceparent } : {}),
  };
  await redis.call('XADD', call.reply_to, '*', ...pairs(entry));
  await redis.call('EXPIRE', call.reply_to, 24 * 3600);
}

async function deadLetter(id, fields, reason, error) {
  const letter = { ...fields, reason, error, deliveries: '1', origin: `${STREAM}/${id}` };
  await redis.call('XADD', DEAD, 'MAXLEN', '~', 100_000, '*', ...pairs(letter));
}

// See an entry through to its answer; `again`: an earlier run of this process may have begun it.
async function handle(id, fields, again) {
  if (fields.v !== '1') {
    await deadLetter(id, fields, 'unsupported_version', `this worker reads version 1, not ${fields.v}`);
    return;
  }
  const call = JSON.parse(fields.data);
  for (const name of ['call_id', 'tool', 'arguments', 'reply_to']) {
    if (typeof call[name] !== 'string') throw new Error(`the call has no ${name}`);
  }
  if (!fields.session || !fields.epoch) throw new Error('the entry names no session and epoch');
  const tool = TOOLS[call.tool];
  const hops = call.hops ?? 0;
  if (tool === undefined && hops < 3) {
    // Somebody else's, of the same queue: back to the group, for three times. The pause lets another one read it.
    const data = JSON.stringify({ ...call, hops: hops + 1 });
    await redis.call('XADD', STREAM, '*', ...pairs({ ...fields, data }));
    await setTimeout(100);
  } else if (tool === undefined) {
    const error = { kind: 'unknown_tool', message: `no worker of ${QUEUE} has ${call.tool}` };
    await answer(fields, call, 'error', `The tool ${call.tool} is not available.`, error);
  } else if (again) {
    await answer(fields, call, 'unknown', 'It is not known whether the tool took effect.');
  } else if (fields.deadline !== undefined && (await now()) >= Number(fields.deadline)) {
    await answer(fields, call, 'expired', 'The tool was not started in time.');
  } else {
    try {
      await answer(fields, call, 'ok', await tool.run(JSON.parse(call.arguments)));
    } catch (error) {
      await answer(fields, call, 'error', `It failed: ${error.message}`, { kind: 'raised', message: String(error) });
    }
  }
}

// Handle an entry, and acknowledge it last; one that cannot be read, or answered, must not end the worker.
async function seeTo(id, fields, again) {
  try {
    await handle(id, fields, again);
  } catch (error) {
    await deadLetter(id, fields, 'malformed', String(error));
  }
  await redis.call('XACK', STREAM, 'workers', id);
}

async function work(since, again) {
  const reply = await redis.call(
    'XREADGROUP', 'GROUP', 'workers', NAME, 'COUNT', 10, 'BLOCK', 1000, 'STREAMS', STREAM, since);
  for (const [id, flat] of reply?.[0][1] ?? []) {
    await seeTo(id, object(flat), again);
  }
}

await redis.call('XGROUP', 'CREATE', STREAM, 'workers', '0', 'MKSTREAM').catch((error) => {
  if (!error.message.startsWith('BUSYGROUP')) throw error;
});
await work('0', true); // what this name had been given before
for (let registered = -Infinity; !stopping;) {
  if (performance.now() - registered > 60_000) {
    registered = performance.now();
    await register();
  }
  await work('>', false);
}
await redis.call('HDEL', REGISTRY, ...Object.keys(TOOLS));
redis.close();
