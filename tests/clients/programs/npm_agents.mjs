// `@openai/agents` as its users write it: an agent with a tool of its own holds a conversation in text, in manual turns,
// and is talked into by voice. Its own transport truncates what was not heard.

import { RealtimeAgent, RealtimeSession, tool } from '@openai/agents/realtime';
import { z } from 'zod';

import { chunks, Events, given, report } from './npm_common.mjs';

const openMap = tool({
  name: 'open_map',
  description: 'Open the map at a place.',
  parameters: z.object({ place: z.string() }),
  execute: async () => 'the map is open',
});

const agent = new RealtimeAgent({ name: 'caller', tools: [openMap] });
const session = new RealtimeSession(agent, {
  transport: 'websocket',
  model: 'gpt-realtime',
  config: { audio: { input: { turnDetection: null } } },
});

const events = new Events();
const errors = [];
const tools = [];
let audio = 0;
session.on('transport_event', (event) => events.add(event));
session.on('error', ({ error }) => errors.push(error?.error ?? String(error)));
session.on('agent_tool_end', (_context, _agent, ended, result) => tools.push([ended.name, result]));
session.on('audio', (event) => (audio += event.data.byteLength));
session.on('audio_interrupted', () => events.add({ type: 'audio_interrupted' }));

// An answer that calls no tool of the agent's: the session itself answers the others.
const answered = () =>
  events.until('response.done', ({ response }) => !response.output.some((item) => item.type === 'function_call'));

await session.connect({ apiKey: 'test-key', url: given.url });
await events.until('session.updated');

for (const text of given.texts) {
  session.sendMessage(text);
  await answered();
}

// In manual turns, spoken.
const question = [...chunks(given.question)];
question.forEach((chunk, number) => session.sendAudio(buffer(chunk), { commit: number === question.length - 1 }));
session.transport.requestResponse();
await answered();

// Speech into a long answer.
session.transport.updateSessionConfig({ audio: { input: { turnDetection: { type: 'server_vad', createResponse: false } } } });
await events.until('session.updated');
session.sendMessage(given.asks_long);
await events.until('response.output_audio.delta');
for (const chunk of chunks(given.speech)) session.sendAudio(buffer(chunk));
await events.until('audio_interrupted');
const interrupted = (await events.until('response.done')).response;
const truncated = await events.until('conversation.item.truncated');
// The session asks for the item that it truncated, as the server has it now.
await events.until('conversation.item.retrieved', ({ item }) => item.id === truncated.item_id);

const history = session.history;
session.close();
report(
  events.seen.filter((event) => event.event_id !== undefined),
  { history, errors, tools, audio, interrupted: interrupted.status, truncated_at: truncated.audio_end_ms },
);

function buffer(chunk) {
  return chunk.buffer.slice(chunk.byteOffset, chunk.byteOffset + chunk.length);
}
