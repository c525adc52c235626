/** The agents' gateway over real WebSockets on the loopback, with a clock moved by hand. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { WebSocket, WebSocketServer } from 'ws';
import {
  AGENT_PROTOCOL,
  type AgentCommand,
  type AgentMessage,
  type ControllerMessage,
  controllerMessageSchema,
} from '../../../contracts/agent.ts';
import type { FairwayError } from '../../../contracts/common.ts';
import { silentLog } from '../../../contracts/log.ts';
import { AgentGateway } from '../../../controller/io/agents.ts';
import { ManualClock, settle, until } from './support.ts';

const http = createServer();
const door = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 100_000 });
let clock: ManualClock;
let gateway: AgentGateway;
let told: string[];
let messages: AgentMessage[];
let sockets: WebSocket[];
let onMessage: () => void;

const hello = (host: string) => ({
  type: 'hello',
  protocol: AGENT_PROTOCOL,
  host,
  driver: 'emulated',
  techniques: ['pre-copy'],
  guests: [],
  migrations: [],
});
const cancel: AgentCommand = { do: 'cancel', migration: 'm-1' };

beforeAll(() => new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve)));
afterAll(() => new Promise((resolve) => http.close(resolve)));
door.on('connection', (ws) => gateway.attach(ws));
beforeEach(() => {
  clock = new ManualClock();
  told = [];
  messages = [];
  sockets = [];
  onMessage = () => undefined;
  gateway = new AgentGateway({
    clock,
    log: silentLog,
    progressPeriodMs: 500,
    onUp: (host) => told.push(`up ${host}`),
    onMessage: (_host, m) => {
      messages.push(m);
      onMessage();
    },
    onDown: (host) => told.push(`down ${host}`),
    helloTimeoutMs: 1_000,
    pingMs: 1_000,
    takeoverMs: 500,
  });
});
afterEach(async () => {
  for (const s of sockets) s.terminate();
  gateway.close();
  await until(() => clock.timers === 0, 'no timer is left');
  expect(clock.timers).toBe(0);
});

async function connect() {
  const ws = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}/`);
  sockets.push(ws);
  const got: ControllerMessage[] = [];
  const end = { code: 0, reason: '' };
  ws.on('message', (d) => got.push(controllerMessageSchema.parse(JSON.parse(d.toString()))));
  ws.on('close', (code, reason) => Object.assign(end, { code, reason: reason.toString() }));
  ws.on('error', () => undefined);
  await new Promise((resolve) => ws.once('open', resolve));
  const say = (m: unknown) => ws.send(typeof m === 'string' ? m : JSON.stringify(m));
  return { ws, got, end, say };
}
async function agent(host: string) {
  const a = await connect();
  a.say(hello(host));
  await until(() => a.got.length > 0, 'it was answered');
  return a;
}

test('hello is welcomed and told; messages come through; a hang-up is told', async () => {
  const a = await agent('hv1');
  expect(a.got[0]).toEqual({ type: 'welcome', protocol: AGENT_PROTOCOL, progressPeriodMs: 500 });
  expect(gateway.hosts).toEqual(['hv1']);
  a.say({ type: 'telemetry', host: { cpuShare: 0.5 } });
  await until(() => messages.length === 1, 'it came through');
  expect(messages[0]).toMatchObject({ type: 'telemetry', host: { cpuShare: 0.5 } });
  a.ws.close();
  await until(() => gateway.hosts.length === 0, 'the gateway noticed');
  expect(told).toEqual(['up hv1', 'down hv1']);
});

test('of a pair: the term is in the welcome; an agent that was led in a newer one is turned away and told of', async () => {
  const newer: string[] = [];
  let term = 0n;
  gateway.close();
  gateway = new AgentGateway({
    ...{ clock, log: silentLog, progressPeriodMs: 500, onMessage: () => {}, onUp: (host) => told.push(`up ${host}`) },
    onDown: (host) => told.push(`down ${host}`),
    term: () => term,
    onNewerTerm: (t, host) => newer.push(`${host} ${t}`),
  });
  const first = await agent('hv1');
  expect(first.got[0]).not.toHaveProperty('term');
  term = 3n;
  expect((await agent('hv2')).got[0]).toMatchObject({ type: 'welcome', term: '3' });
  const led = async (host: string, known: string) => {
    const a = await connect();
    a.say({ ...hello(host), term: known });
    await until(() => a.got.length > 0, 'it was answered');
    return a.got[0];
  };
  expect(await led('hv3', '3')).toMatchObject({ type: 'welcome' });
  expect(await led('hv4', '4')).toMatchObject({
    type: 'refused',
    reason: expect.stringMatching(/led in term 4.*in term 3/),
  });
  expect(newer).toEqual(['hv4 4']);
  expect(told).toEqual(['up hv1', 'up hv2', 'up hv3']);
});

test('a controller that stands alone does not mind terms', async () => {
  const a = await connect();
  a.say({ ...hello('hv1'), term: '7' });
  await until(() => a.got.length > 0, 'it was answered');
  expect(a.got[0]).toMatchObject({ type: 'welcome' });
});

test('no hello in time, another message first, another protocol: turned away with the reason', async () => {
  const idle = clock.timers;
  const silent = await connect();
  await until(() => clock.timers > idle, 'the gateway waits for a hello');
  clock.advance(1_000);
  await until(() => silent.end.code !== 0, 'it was closed');
  expect(silent.end).toEqual({ code: 1008, reason: 'no hello within 1000 ms' });

  const early = await connect();
  early.say({ type: 'guests', guests: [] });
  await until(() => early.end.code !== 0, 'it was closed');
  expect(early.got).toEqual([{ type: 'refused', reason: 'guests before hello' }]);

  const old = await connect();
  old.say({ ...hello('hv1'), protocol: 'fairway-agent/0' });
  await until(() => old.end.code !== 0, 'it was closed');
  expect(old.got[0]).toMatchObject({ type: 'refused', reason: expect.stringContaining('fairway-agent/0') });
  expect(told).toEqual([]);
});

test('a result reaches its command; a refusal carries the agent’s code and words', async () => {
  const a = await agent('hv1');
  const one = gateway.send('hv1', { do: 'measureDirtyRate', guest: 'vm1', seconds: 1 });
  const two = gateway.send('hv1', cancel).catch((e: Error) => e);
  await until(() => a.got.length === 3, 'both arrived');
  const ids = a.got.slice(1).map((m) => (m.type === 'command' ? m.id : -1));
  expect(a.got[1]).toMatchObject({ command: { do: 'measureDirtyRate', guest: 'vm1', seconds: 1 } });
  a.say({ type: 'result', id: ids[1], ok: false, code: 'POSTCOPY', error: 'the guest runs there already' });
  a.say({ type: 'result', id: ids[0], ok: true, value: { dirtyBytesPerS: 7 } });
  expect(await one).toEqual({ dirtyBytesPerS: 7 });
  const e = (await two) as FairwayError;
  expect(e).toMatchObject({
    code: 'AGENT_REFUSED',
    cause: { code: 'POSTCOPY', message: 'the guest runs there already' },
  });
  expect(e.message).toContain('the guest runs there already (POSTCOPY)');
});

test('away is retryable; lost and timed out are unknown; a late result harms nothing', async () => {
  await expect(gateway.send('hv1', cancel)).rejects.toMatchObject({ code: 'AGENT_AWAY', labels: ['retryable'] });
  const a = await agent('hv1');
  const timed = gateway.send('hv1', cancel, 200).catch((e) => e);
  clock.advance(200);
  expect(await timed).toMatchObject({ code: 'AGENT_TIMEOUT', labels: ['outcomeUnknown'] });
  await until(() => a.got.length === 2, 'the command arrived');
  a.say({ type: 'result', id: (a.got[1] as { id: number }).id, ok: true });
  a.say({ type: 'result', id: 4_711, ok: true });
  const lost = gateway.send('hv1', cancel).catch((e) => e);
  await settle();
  a.ws.terminate();
  expect(await lost).toMatchObject({ code: 'AGENT_LOST', labels: ['outcomeUnknown'] });
  expect(told).toEqual(['up hv1', 'down hv1']);
});

test('a command outside the contract is not sent', async () => {
  const a = await agent('hv1');
  const nan: AgentCommand = { do: 'setBandwidth', migration: 'm-1', bandwidthBps: Number.NaN };
  await expect(gateway.send('hv1', nan)).rejects.toMatchObject({ code: 'AGENT_COMMAND', labels: ['badInput'] });
  await settle();
  expect(a.got).toHaveLength(1);
});

test('what is not valid is refused and counted, and hurts neither its sender nor others', async () => {
  const a = await agent('hv1');
  const b = await agent('hv2');
  const bad = [
    '{',
    '[]',
    'null',
    { type: 'telemetry', host: { cpuShare: 3 } },
    { type: 'x' },
    hello('hv1'),
    { type: 'result', id: 'x' },
  ];
  for (const m of bad) a.say(m);
  a.ws.send(Buffer.from([1, 2, 3]), { binary: true });
  await until(() => a.got.length === 1 + bad.length + 1, 'all were refused');
  expect(a.got.slice(1).every((m) => m.type === 'refused')).toBe(true);
  expect(a.got[4]).toMatchObject({ reason: expect.stringMatching(/^telemetry: host.cpuShare: /) });
  expect(gateway.refused).toBe(bad.length + 1);
  for (const x of [a, b]) x.say({ type: 'guests', guests: [] });
  await until(() => messages.length === 2, 'both are still heard');
  for (let i = 0; i < 120; i++) a.say('{');
  await until(() => a.end.code !== 0, 'it was closed at last');
  expect(gateway.hosts).toEqual(['hv2']);
});

test('any message whatever leaves the gateway standing', async () => {
  const b = await agent('hv2');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(fc.string(), fc.json()), { maxLength: 20 }), async (texts) => {
      const a = await connect();
      a.say(hello('hv1'));
      for (const t of texts) a.say(t);
      a.ws.close();
      await until(() => a.end.code !== 0 && !gateway.hosts.includes('hv1'), 'it is gone');
      expect(gateway.hosts).toEqual(['hv2']);
    }),
    { numRuns: 30 },
  );
  b.say({ type: 'guests', guests: [] });
  await until(() => messages.some((m) => m.type === 'guests'), 'the other is still heard');
});

test('a fault in a listener does not end the connection', async () => {
  const a = await agent('hv1');
  onMessage = () => {
    throw new Error('a fault');
  };
  a.say({ type: 'guests', guests: [] });
  a.say({ type: 'guests', guests: [] });
  await until(() => messages.length === 2, 'both came through');
  expect(gateway.hosts).toEqual(['hv1']);
});

test('a second agent for a host whose first is alive is refused; the first goes on', async () => {
  const first = await agent('hv1');
  const second = await agent('hv1');
  await until(() => second.end.code !== 0, 'the second was closed');
  expect(second.got).toEqual([{ type: 'refused', reason: expect.stringContaining('connected already') }]);
  first.say({ type: 'guests', guests: [] });
  await until(() => messages.length === 1, 'the first is heard');
  expect(told).toEqual(['up hv1']);
});

test('an agent that comes back while its old connection is dead takes over, with all it said meanwhile', async () => {
  const first = await agent('hv1');
  const open = gateway.send('hv1', cancel).catch((e) => e);
  await until(() => first.got.length === 2, 'the command arrived');
  first.ws.pause();
  const second = await connect();
  second.say(hello('hv1'));
  second.say({ type: 'guests', guests: [] });
  const third = await connect();
  await settle();
  third.say(hello('hv1'));
  await until(() => third.end.code !== 0, 'a third must come again');
  expect(messages).toEqual([]);
  clock.advance(500);
  await until(() => messages.length === 1, 'the second is heard');
  await until(() => second.got[0]?.type === 'welcome', 'it is welcomed');
  expect(told).toEqual(['up hv1', 'down hv1', 'up hv1']);
  expect(await open).toMatchObject({ code: 'AGENT_LOST' });
  expect(gateway.hosts).toEqual(['hv1']);
});

test('an agent without a sign of life is given up', async () => {
  const a = await agent('hv1');
  const b = await agent('hv2');
  let answers = 0;
  for (const ws of door.clients) ws.on('pong', () => answers++);
  a.ws.pause();
  for (let beat = 1; beat <= 4; beat++) {
    clock.advance(1_000);
    await until(() => answers >= beat, 'the other has answered');
  }
  expect(gateway.hosts).toEqual(['hv2']);
  expect(told).toEqual(['up hv1', 'up hv2', 'down hv1']);
  b.ws.close();
});

test('close lets all go and rejects what is open', async () => {
  const a = await agent('hv1');
  const open = gateway.send('hv1', cancel).catch((e) => e);
  gateway.close();
  expect(await open).toMatchObject({ code: 'AGENT_LOST' });
  await until(() => a.end.code !== 0, 'it was told');
  expect(a.end).toEqual({ code: 1001, reason: 'the controller stops' });
  const late = await connect();
  await until(() => late.end.code !== 0, 'a late one was sent away');
});
