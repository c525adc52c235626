/** Who is refused as a switch, as the feed of a running controller tells it. */
import { connect, type Socket } from 'node:net';
import { FairwayClient } from '../../../cli/client.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { controllerConfigSchema } from '../../../contracts/config.ts';
import type { TopologyView } from '../../../contracts/feed.ts';
import { silentLog } from '../../../contracts/log.ts';
import { RefusedSwitches } from '../../../controller/io/refusedSwitches.ts';
import { type FairwayServer, startController } from '../../../controller/io/server.ts';

const token = 'token-of-the-refused';
/** The hello of a switch that speaks OpenFlow 1.0 and nothing else. */
const HELLO_10 = Buffer.from('0100000800000001', 'hex');

let server: FairwayServer | undefined;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const s of sockets.splice(0)) s.destroy();
  await server?.close();
  server = undefined;
});

test('a reader of the feed is told of it when it happens, and one that comes later with the first snapshot', async () => {
  const config = controllerConfigSchema.parse({
    ...{ openflow: { port: 0 }, http: { port: 0 }, policy: { store: 'memory' } },
  });
  server = await startController(config, { log: silentLog, clock: systemClock(), token, journal: null });
  const { httpPort, openflowPort } = server;
  const client = new FairwayClient({ url: `http://127.0.0.1:${httpPort}`, token, timeoutMs: 30_000 });

  /** The first view that `isIt`; the others are kept. */
  const seen: TopologyView[] = [];
  async function see(isIt: (t: TopologyView) => boolean, onFirst = () => {}): Promise<TopologyView> {
    const stop = new AbortController();
    let found: TopologyView | undefined;
    await client.follow(
      ['topology'],
      (e) => {
        if (!('topic' in e) || e.topic !== 'topology') return;
        if (seen.push(e.data) === 1) onFirst();
        if (!isIt(e.data)) return;
        found = e.data;
        stop.abort();
      },
      stop.signal,
    );
    return found as TopologyView;
  }
  const has = (t: TopologyView) => t.refusedSwitches !== undefined;
  const dial = () => {
    const socket = connect(openflowPort, '127.0.0.1', () => socket.write(HELLO_10));
    socket.on('error', () => {});
    sockets.push(socket);
  };
  const told = await see(has, dial);
  expect(seen[0]).not.toHaveProperty('refusedSwitches');
  const one = { from: '127.0.0.1', dpid: null, why: expect.stringContaining('OpenFlow 1.0'), times: 1 };
  expect(told.refusedSwitches).toMatchObject([one]);
  seen.length = 0;
  expect((await see(() => true)).refusedSwitches).toMatchObject([one]);
  expect((await client.status()).refusedSwitches).toMatchObject([one]);
});

test('there is news when somebody joins or leaves the list, or is refused for another reason; not when one tries again', () => {
  const r = new RefusedSwitches();
  expect(r.hasNews(0)).toBe(false);
  r.note('192.0.2.9', null, 'OpenFlow 1.0 only', 1000);
  expect([r.hasNews(1000), r.hasNews(2000)]).toEqual([true, false]);
  r.note('192.0.2.9', null, 'OpenFlow 1.0 only', 60_000);
  expect(r.hasNews(60_000)).toBe(false);
  r.note('192.0.2.9', '00000000000000aa', 'taken', 61_000);
  expect(r.hasNews(61_000)).toBe(true);
  // Two minutes after its last try each is forgotten.
  expect([r.hasNews(179_999), r.hasNews(180_000), r.hasNews(181_000), r.hasNews(400_000)]).toEqual([
    ...[false, true, true, false],
  ]);
});
