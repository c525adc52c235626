/** Two running controllers that know of each other (`controller/io/pair.ts`), without switches and agents. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { FairwayClient } from '../../../cli/client.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { controllerConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { Journal } from '../../../controller/io/journal.ts';
import { type FairwayServer, startController } from '../../../controller/io/server.ts';
import { freePort } from '../../freePort.ts';

const token = 'token-of-the-pair';
const running = new Set<FairwayServer>();
let dir: string;
let ports: { a: number; b: number };

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'fairway-pair-'));
  ports = { a: await freePort(), b: await freePort() };
});
afterEach(async () => {
  for (const s of running) await s.close();
  running.clear();
  rmSync(dir, { recursive: true, force: true });
});

const urlOf = (name: 'a' | 'b') => `http://127.0.0.1:${ports[name]}`;
const clientOf = (name: 'a' | 'b') => new FairwayClient({ url: urlOf(name), token, timeoutMs: 30_000 });

async function start(name: 'a' | 'b'): Promise<FairwayServer> {
  const role = name === 'a' ? 'primary' : 'standby';
  const config = controllerConfigSchema.parse({
    openflow: { port: 0, role, peer: urlOf(name === 'a' ? 'b' : 'a') },
    http: { port: ports[name] },
    policy: { store: 'memory' },
    journal: join(dir, `journal-${name}`),
  });
  // Five times as fast: a second of the watch is a fifth.
  const server = await startController(config, { log: silentLog, clock: systemClock(5), token });
  running.add(server);
  return server;
}

async function stop(server: FairwayServer): Promise<void> {
  running.delete(server);
  await server.close();
}

const standing = async (name: 'a' | 'b') => (await clientOf(name).status()).pair;
/** Resolves when a controller stands so in this term. */
async function stands(name: 'a' | 'b', role: 'primary' | 'standby', term: string): Promise<void> {
  const want = { role, term, peer: urlOf(name === 'a' ? 'b' : 'a') };
  let seen: unknown;
  for (let i = 0; i < 3000; i++) {
    seen = await standing(name);
    if (JSON.stringify(seen) === JSON.stringify(want)) break;
    await new Promise((r) => setTimeout(r, 20));
  }
  expect(seen).toEqual(want);
}

/** HTTP status with which a WebSocket is refused, or 101. */
const knock = (name: 'a' | 'b', path: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const ws = new WebSocket(`${urlOf(name).replace('http', 'ws')}${path}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    ws.on('open', () => {
      ws.terminate();
      resolve(101);
    });
    ws.on('unexpected-response', (_request, response) => {
      response.resume();
      ws.terminate();
      resolve(response.statusCode ?? 0);
    });
    ws.on('error', reject);
  });

test('a standby refuses what only the one in charge may do, and names it', async () => {
  await start('a');
  await start('b');
  await stands('b', 'standby', '0');
  const named = { code: 'STANDBY', message: expect.stringContaining(urlOf('a')) };
  const b = clientOf('b');
  await expect(b.migrate({ moves: [{ guest: 'g', destination: 'h' }] })).rejects.toMatchObject(named);
  await expect(b.cancel('x')).rejects.toMatchObject(named);
  await expect(b.evacuate({ host: 'h' })).rejects.toMatchObject(named);
  await expect(b.patchPolicy({ 'marks.low': 16 })).rejects.toMatchObject(named);
  expect((await b.policy()).status.revision).toBe((await clientOf('a').policy()).status.revision);
  expect([await knock('a', '/agent'), await knock('b', '/agent')]).toEqual([101, 503]);
  expect([await knock('a', '/journal'), await knock('b', '/journal')]).toEqual([101, 503]);
  const health = await fetch(`${urlOf('b')}/healthz`);
  expect(await health.json()).toMatchObject({ ok: true, role: 'standby', term: '0' });
});

test('the standby takes over, and the old primary comes back as standby, and takes over in its turn', async () => {
  const a = await start('a');
  const b = await start('b');
  await stop(a);
  await stands('b', 'primary', '1');
  expect(await knock('b', '/agent')).toBe(101);
  await start('a');
  // It has followed, and so knows of the term.
  await stands('a', 'standby', '1');
  await stop(b);
  await stands('a', 'primary', '2');
  await start('b');
  await stands('b', 'standby', '2');
  for (const s of running) await s.close();
  running.clear();
  const journal = await Journal.open(join(dir, 'journal-a'));
  await journal.close();
  expect(journal.entries.filter((e) => e.type === 'term').at(-1)).toEqual({ type: 'term', term: '2' });
});

test('a primary whose journal is of an older term than its peer gives way, though the peer stands by', async () => {
  const journal = await Journal.open(join(dir, 'journal-b'));
  journal.append({ type: 'term', term: '5' });
  await journal.close();
  await start('b');
  await start('a');
  await stands('b', 'primary', '6');
  await stands('a', 'standby', '6');
});

test('the policy of the one in charge is the one after a takeover', async () => {
  const a = await start('a');
  await clientOf('a').patchPolicy({ 'marks.low': 16, 'overrides.guests.db.technique.hybridPasses': 3 });
  const b = await start('b');
  /** Resolves when the standby has the policy that the one in charge has. */
  const follows = async (): Promise<void> => {
    let docs: unknown[] = [];
    for (let i = 0; i < 3000; i++) {
      docs = [(await clientOf('b').policy()).policy, (await clientOf('a').policy()).policy];
      if (JSON.stringify(docs[0]) === JSON.stringify(docs[1])) break;
      await new Promise((r) => setTimeout(r, 20));
    }
    expect(docs[0]).toEqual(docs[1]);
  };
  await follows();
  await clientOf('a').patchPolicy({ 'marks.low': 18, 'overrides.guests.db.technique.hybridPasses': 4 });
  await follows();
  await stop(a);
  await stands('b', 'primary', '1');
  expect((await clientOf('b').policy()).policy.marks.low).toBe(18);
  expect(running).toContain(b);
});

test('an agent that was led in a newer term ends the term of the one in charge, which leads again when it has heard of the other', async () => {
  const a = await start('a');
  const ws = new WebSocket(`${urlOf('a').replace('http', 'ws')}/agent`, {
    headers: { authorization: `Bearer ${token}` },
  });
  await new Promise((r) => ws.once('open', r));
  const hello = { type: 'hello', protocol: 'fairway-agent/1', host: 'h', driver: 'none', techniques: [], guests: [] };
  ws.send(JSON.stringify({ ...hello, migrations: [], term: '8' }));
  await stands('a', 'standby', '0');
  // Longer than it takes a standby to miss its primary: whoever led the agent may be there, unseen.
  await new Promise((r) => setTimeout(r, 1500));
  await stands('a', 'standby', '0');
  await start('b');
  await stands('a', 'primary', '9');
  ws.terminate();
  expect(running).toContain(a);
});
