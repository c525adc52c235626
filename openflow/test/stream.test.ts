/** attach(): connections over Node streams, with timers that the test turns by hand. */
import { duplexPair } from 'node:stream';
import { attach, type ConnectionHandler, type ConnectionOptions, OfConnection, of13, type Timers } from 'node-openflow';
import { microtasks, watch } from './backToBack.ts';

class HandTimers implements Timers {
  #now = 0;
  readonly #waiting = new Set<{ at: number; fn: () => void }>();
  now = () => this.#now;
  soon = (fn: () => void) => void setImmediate(fn);
  after = (ms: number, fn: () => void) => {
    const entry = { at: this.#now + ms, fn };
    this.#waiting.add(entry);
    return () => void this.#waiting.delete(entry);
  };
  get armed(): number {
    return this.#waiting.size;
  }
  /** Lets time pass, step by step from one timer to the next. */
  async pass(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const [next] = [...this.#waiting].filter((e) => e.at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#waiting.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.fn();
      await calm();
    }
    this.#now = until;
  }
}
const calm = async () => {
  for (let i = 0; i < 20; i++) await microtasks();
};

function ends(options: ConnectionOptions<4> = {}, handler: ConnectionHandler<4> = {}) {
  const [a, b] = duplexPair({ writableHighWaterMark: 1000 });
  const timers = new HandTimers();
  const sw: OfConnection<4> = new OfConnection<4>(
    {
      onMessage(m) {
        if (m.cls === 'OFPFeaturesRequest') sw.send(of13.OFPSwitchFeatures({ datapath_id: 9n }), m.xid);
        if (m.cls === 'OFPBarrierRequest') sw.send(of13.OFPBarrierReply(), m.xid);
      },
    },
    { role: 'switch', versions: [4], echoIntervalMs: 0 },
  );
  const controller = new OfConnection<4>(handler, { versions: [4], ...options });
  attach(controller, a, timers);
  attach(sw, b, timers);
  return { a, b, timers, controller, sw };
}

test('two ends come up, keep alive, and go down together', async () => {
  const downs: string[] = [];
  const { controller, sw, timers, a, b } = ends({ echoIntervalMs: 100 }, { onDown: (r) => downs.push(r.code) });
  await calm();
  expect(controller.features?.datapath_id).toBe(9n);
  await timers.pass(1000);
  expect(controller.roundTrip?.lastMs).toBe(0);
  const barrier = watch(controller.barrier());
  await calm();
  expect(barrier).toMatchObject({ times: 1 });
  controller.close('that is all');
  await calm();
  expect(sw.downReason).toEqual({ code: 'closed', message: 'the peer closed the connection' });
  expect(downs).toEqual(['local']);
  expect([a.destroyed, b.destroyed]).toEqual([true, true]);
  expect(timers.armed).toBe(0);
});

test('all that is sent in one turn goes out in one write', async () => {
  const { controller, a } = ends();
  await calm();
  const writes: number[] = [];
  const write = a.write.bind(a);
  a.write = ((chunk: Buffer) => {
    writes.push(chunk.length);
    return write(chunk);
  }) as typeof a.write;
  for (let i = 0; i < 50; i++) controller.send(of13.OFPEchoReply());
  expect(writes).toEqual([]);
  await calm();
  expect(writes).toEqual([400]);
});

test('a stream that breaks says why, and one that never ends is torn down', async () => {
  const broken = ends();
  await calm();
  const request = watch(broken.controller.request(of13.OFPGetConfigRequest()));
  broken.a.destroy(new Error('read ECONNRESET'));
  await calm();
  expect(broken.controller.downReason).toEqual({ code: 'closed', message: 'read ECONNRESET' });
  expect(request.error).toMatchObject({ code: 'down' });

  const stuck = ends();
  await calm();
  stuck.b.pause();
  stuck.a.write(Buffer.alloc(100_000));
  stuck.controller.close();
  await calm();
  expect(stuck.a.destroyed).toBe(false);
  await stuck.timers.pass(500);
  expect(stuck.a.destroyed).toBe(true);
});

test('a silent peer is found by the timer', async () => {
  const { controller, sw, b, timers } = ends({ echoIntervalMs: 100 });
  await calm();
  expect(sw.isUp).toBe(true);
  b.pause();
  await timers.pass(400);
  expect(controller.downReason?.code).toBe('silent');
});

test('a switch whose answers are not read stops reading', async () => {
  const { controller, sw, a, b } = ends();
  await calm();
  a.pause();
  for (let i = 0; i < 400; i++) sw.send(of13.OFPPacketIn({ data: Buffer.alloc(10_000) }));
  await calm();
  expect(sw.stats.queuedBytes).toBeGreaterThan(2 ** 20);
  expect(b.isPaused()).toBe(true);
  const barrier = watch(controller.barrier());
  await calm();
  expect(barrier.times).toBe(0);
  a.resume();
  for (let i = 0; i < 20; i++) await calm();
  expect(b.isPaused()).toBe(false);
  expect(barrier.times).toBe(1);
});
