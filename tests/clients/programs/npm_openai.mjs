// The npm package `openai` as its users write it, over `ws` or over Node's own WebSocket: one conversation in text, with
// tools of both sides, in manual turns, and with speech into an answer.

import OpenAI from 'openai';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';

import { chunks, Events, given, report } from './npm_common.mjs';

const OPEN_MAP = {
  type: 'function',
  name: 'open_map',
  description: 'Open the map at a place.',
  parameters: { type: 'object', properties: { place: { type: 'string' } }, required: ['place'] },
};

const client = new OpenAI({ apiKey: 'test-key', baseURL: given.base_url });
const rt =
  given.transport === 'ws'
    ? new OpenAIRealtimeWS({ model: 'gpt-realtime' }, client)
    : new OpenAIRealtimeWebSocket({ model: 'gpt-realtime', dangerouslyAllowBrowser: true }, client);

const events = new Events();
const errors = [];
rt.on('event', (event) => events.add(event));
rt.on('error', (error) => errors.push(error.message));

async function update(session) {
  rt.send({ type: 'session.update', session: { type: 'realtime', ...session } });
  return (await events.until('session.updated')).session;
}

function say(text) {
  const content = [{ type: 'input_text', text }];
  rt.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  rt.send({ type: 'response.create' });
}

async function answer() {
  const { response } = await events.until('response.done');
  return response;
}

const words = (response) =>
  response.output.flatMap((item) => (item.content ?? []).map((part) => part.text ?? part.transcript)).join('');

const { session } = await events.until('session.created');

// In text, with a tool of the server's.
await update({ output_modalities: ['text'], tools: [OPEN_MAP] });
say(given.asks_server);
const served = words(await answer());

// A response that calls a tool of each side.
say(given.asks_both);
const called = await answer();
const calls = called.output.filter((item) => item.type === 'function_call');
for (const call of calls) {
  const item = { type: 'function_call_output', call_id: call.call_id, output: 'the map is open' };
  rt.send({ type: 'conversation.item.create', item });
}
rt.send({ type: 'response.create' });
const both = words(await answer());

// In manual turns, spoken.
await update({
  output_modalities: ['audio'],
  audio: { input: { turn_detection: null, transcription: { model: 'gpt-4o-mini-transcribe' } } },
});
for (const chunk of chunks(given.question)) {
  rt.send({ type: 'input_audio_buffer.append', audio: chunk.toString('base64') });
}
rt.send({ type: 'input_audio_buffer.commit' });
rt.send({ type: 'response.create' });
const spoken = words(await answer());

// Speech into a long answer.
await update({ audio: { input: { turn_detection: { type: 'server_vad', create_response: false } } } });
say(given.asks_long);
const delta = await events.until('response.output_audio.delta');
for (const chunk of chunks(given.speech)) {
  rt.send({ type: 'input_audio_buffer.append', audio: chunk.toString('base64') });
}
await events.until('input_audio_buffer.speech_started');
const interrupted = await answer();
rt.send({ type: 'conversation.item.truncate', item_id: delta.item_id, content_index: 0, audio_end_ms: 50 });
const truncated = await events.until('conversation.item.truncated');

rt.close();
await new Promise((resolve) => rt.socket.addEventListener('close', resolve));
report(events.seen, {
  session,
  served,
  called: calls.map((call) => [call.name, JSON.parse(call.arguments)]),
  both,
  spoken,
  interrupted: [interrupted.status, interrupted.status_details?.reason],
  truncated_at: truncated.audio_end_ms,
  errors,
});
