/**
 * What must hold of two connections over any schedule of writes, partial deliveries, time-outs, refusals and disconnects, and of one
 * connection whatever its peer sends. FC_RUNS multiplies the number of runs (default 1).
 */
import fc from 'fast-check';
import {
  encode,
  MessageSplitter,
  OfConnectionError,
  type OfMessage,
  type OfObject,
  OfRequestError,
  of10,
  of12,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp,
  type TransactionResult,
  VERSIONS,
  type Version,
} from 'node-openflow';
import { anyMessage } from './arbitrary.ts';
import { BackToBack, End, microtasks, type Outcome, watch } from './backToBack.ts';

const runs = (n: number) => ({ numRuns: n * Number(process.env.FC_RUNS ?? 1) });
const LIMITS = { maxUnfinishedBytes: 20_000, rememberMessages: 20, rememberBytes: 4000, highWaterBytes: 2000 };

const ANSWERS = /^(OFP.*Reply|ONFBundleCtrlMsg)$/;

/** Flow mods of odd priority are refused. */
const isRefused = (priority: number) => priority % 2 === 1;

type FlowMod = OfObject<'OFPFlowMod'>;
/** How flow mods that belong together are sent. */
type Kind = 'transaction' | 'bundle' | 'bundleAtOnce';
type Step =
  | { do: 'ask'; port: number }
  | { do: Kind; priorities: number[] }
  | { do: 'send'; priority: number }
  | { do: 'event' }
  | { do: 'flush' }
  | { do: 'move'; from: 'controller' | 'switch'; bytes: number }
  | { do: 'answer'; which: number }
  | { do: 'pass'; ms: number }
  | { do: 'capacity'; of: 'controller' | 'switch'; bytes: number }
  | { do: 'close'; who: 'controller' | 'switch' };

const side = fc.constantFrom('controller' as const, 'switch' as const);
const chunk = fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 3000 }));
const priorities = fc.array(fc.nat(9), { maxLength: 5 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 24, arbitrary: fc.record({ do: fc.constant('ask' as const), port: fc.integer({ min: 1, max: 1000 }) }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('transaction' as const), priorities }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('bundle' as const), priorities }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('bundleAtOnce' as const), priorities }) },
  { weight: 12, arbitrary: fc.record({ do: fc.constant('send' as const), priority: fc.nat(9) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('event' as const) }) },
  { weight: 16, arbitrary: fc.record({ do: fc.constant('flush' as const) }) },
  { weight: 48, arbitrary: fc.record({ do: fc.constant('move' as const), from: side, bytes: chunk }) },
  { weight: 20, arbitrary: fc.record({ do: fc.constant('answer' as const), which: fc.nat(50) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 900 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('capacity' as const),
      of: side,
      bytes: fc.constantFrom(1, 500, Number.POSITIVE_INFINITY),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('close' as const), who: side }) },
) as fc.Arbitrary<Step>;

test('requests and transactions settle exactly once, with what belongs to them, whatever happens', async () => {
  const seen = { replies: 0, refusals: 0, timeouts: 0, downs: 0, late: 0, applied: 0, refused: 0, unknown: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 120 }), async (steps) => {
      /** Answers the switch has not given yet. */
      const owed: (() => void)[] = [];
      let refusals = 0;
      /** Cookies of the flow mods that the switch has carried out, and those of its open bundles. */
      const applied = new Set<bigint>();
      const bundles = new Map<number, { cookie: bigint; priority: number }[]>();
      const carryOut = (mods: readonly { cookie: bigint }[]) => {
        for (const { cookie } of mods) applied.add(cookie);
      };
      const refuse = (m: OfMessage<4>, type: number, code: number) => {
        refusals++;
        sw.connection.refuse(m, { type, code });
      };
      const sw: End<4> = new End<4>(
        { role: 'switch', versions: [4], echoIntervalMs: 700, stallMs: 3000, ...LIMITS },
        {
          onMessage(m) {
            const c = sw.connection;
            if (m.cls === 'OFPFeaturesRequest') c.send(of13.OFPSwitchFeatures({ datapath_id: 1n }), m.xid);
            if (m.cls === 'OFPBarrierRequest') c.send(of13.OFPBarrierReply(), m.xid);
            if (m.cls === 'OFPFlowMod') {
              if (isRefused(m.priority)) refuse(m, 5, 1);
              else carryOut([m]);
            }
            if (m.cls === 'ONFBundleAddMsg' && m.message.cls === 'OFPFlowMod') {
              const { cookie, priority } = m.message;
              // what is refused with priority 5 is refused at once, the rest when it is committed
              if (priority === 5) refuse(m, 1, 1);
              else bundles.get(m.bundle_id)?.push({ cookie, priority });
            }
            if (m.cls === 'ONFBundleCtrlMsg') {
              const mods = bundles.get(m.bundle_id) ?? [];
              if (m.type === ofp.ONF_BCT_OPEN_REQUEST) bundles.set(m.bundle_id, []);
              else bundles.delete(m.bundle_id);
              if (m.type === ofp.ONF_BCT_COMMIT_REQUEST && mods.some(({ priority }) => isRefused(priority))) {
                refuse(m, 17, 13);
                return;
              }
              if (m.type === ofp.ONF_BCT_COMMIT_REQUEST) carryOut(mods);
              c.send(of13.ONFBundleCtrlMsg({ bundle_id: m.bundle_id, type: m.type + 1, flags: m.flags }), m.xid);
            }
            if (m.cls !== 'OFPPortStatsRequest') return;
            const port = m.port_no;
            // refused, or answered in up to four parts, now or later, or never
            const parts = port % 5;
            const part = (i: number) => () => {
              if (parts === 0) refuse(m, 1, 2);
              else {
                const flags = i + 1 < parts ? ofp.OFPMPF_REPLY_MORE : 0;
                const body = [of13.OFPPortStats({ port_no: port, rx_packets: i })];
                c.send(of13.OFPPortStatsReply({ flags, body }), m.xid);
              }
            };
            const all = Array.from({ length: Math.max(1, parts) }, (_, i) => part(i));
            if (port % 2 === 0) for (const p of all) p();
            else if (port % 7 !== 0) owed.push(...all);
          },
        },
      );
      const controller = new End<4>({
        versions: [4],
        echoIntervalMs: 500,
        stallMs: 3000,
        requestTimeoutMs: 1000,
        firstXid: 0xffff_fff8,
        ...LIMITS,
      });
      const both = new BackToBack<4, 4>(controller, sw).open();
      both.settle();
      const c = controller.connection;
      const asked: { port: number; outcome: Outcome<OfMessage> }[] = [];
      const batches: { do: Kind; mods: FlowMod[]; outcome: Outcome<TransactionResult> }[] = [];
      let cookies = 0n;
      let events = 0;
      /** Parts of one reply must keep their order, so what is owed is given from the front. */
      const giveOwed = (n: number) => {
        for (const give of owed.splice(0, n)) give();
      };
      for (const s of steps) {
        switch (s.do) {
          case 'ask':
            asked.push({ port: s.port, outcome: watch(c.request(of13.OFPPortStatsRequest({ port_no: s.port }))) });
            break;
          case 'transaction':
          case 'bundle':
          case 'bundleAtOnce': {
            const mods = s.priorities.map((priority) => of13.OFPFlowMod({ priority, cookie: ++cookies }));
            const commitAtOnce = s.do === 'bundleAtOnce';
            const sent = s.do === 'transaction' ? c.transaction(mods) : c.bundle(mods, { commitAtOnce });
            batches.push({ do: s.do, mods, outcome: watch(sent) });
            break;
          }
          case 'send':
            if (c.isUp) c.send(of13.OFPFlowMod({ priority: s.priority }));
            break;
          case 'event':
            if (sw.connection.isUp) sw.connection.send(of13.OFPPacketIn({ data: Buffer.from(String(events++)) }));
            break;
          case 'flush':
            both.flush();
            break;
          case 'move':
            both.move(s.from, s.bytes);
            break;
          case 'answer':
            giveOwed(s.which);
            break;
          case 'pass':
            both.pass(s.ms);
            break;
          case 'capacity':
            both[s.of].out.capacity = s.bytes;
            break;
          case 'close':
            both[s.who].connection.close();
            break;
        }
        const { queuedBytes, unfinishedBytes, rememberedMessages } = c.stats;
        expect(unfinishedBytes).toBeLessThanOrEqual(LIMITS.maxUnfinishedBytes);
        expect(rememberedMessages).toBeLessThanOrEqual(LIMITS.rememberMessages);
        expect(queuedBytes).toBeLessThan(200_000);
        if (s.do !== 'move') await microtasks();
      }
      const wasUp = c.isUp && sw.connection.isUp;
      giveOwed(owed.length);
      // everything that can be answered is, and then time runs out for the rest; a bundle asks twice
      for (let i = 0; i < 4; i++) {
        both.settle();
        await microtasks();
      }
      for (let i = 0; i < 3; i++) {
        both.pass(1001, () => both.settle());
        await microtasks();
      }
      both.settle();

      for (const { port, outcome } of asked) {
        expect(outcome.times).toBe(1);
        const { value, error } = outcome;
        if (value?.cls === 'OFPPortStatsReply') {
          seen.replies++;
          const parts = port % 5;
          expect(value.body.map((b) => [b.port_no, Number(b.rx_packets)])).toEqual(
            Array.from({ length: parts }, (_, i) => [port, i]),
          );
        } else if (error instanceof OfRequestError) {
          seen.refusals++;
          expect(port % 5).toBe(0);
          expect(error.request).toMatchObject({ port_no: port });
        } else {
          expect(error).toBeInstanceOf(OfConnectionError);
          const { code } = error as OfConnectionError;
          if (code === 'timeout') seen.timeouts++;
          else {
            expect(['down', 'notUp']).toContain(code);
            expect(c.isUp).toBe(false);
            seen.downs++;
          }
        }
      }
      for (const { do: kind, mods, outcome } of batches) {
        expect(outcome.times).toBe(1);
        if (outcome.value === undefined) {
          expect(outcome.error).toMatchObject({ code: 'notUp' });
          continue;
        }
        const { outcome: what, errors } = outcome.value;
        const held = mods.filter(({ cookie }) => applied.has(cookie));
        const good = mods.filter(({ priority }) => !isRefused(priority));
        seen[what]++;
        if (what === 'unknown') continue;
        if (what === 'applied') {
          expect([held, errors]).toEqual([mods, []]);
        } else if (kind === 'transaction') {
          expect(held).toEqual(good);
          expect(errors.map((e) => e.request)).toEqual(mods.filter((m) => !good.includes(m)));
        } else {
          // what was refused when it was added is not there when the bundle is committed at once
          const added = mods.filter(({ priority }) => priority !== 5);
          const isCommitted = kind === 'bundleAtOnce' && outcome.value.cause === undefined;
          expect(held).toEqual(isCommitted && !added.some(({ priority }) => isRefused(priority)) ? added : []);
          expect(errors.length > 0 || outcome.value.cause !== undefined).toBe(true);
        }
      }
      // events keep their order; all of them come when nobody hung up
      const frames = controller.told.messages.flatMap((m) =>
        m.cls === 'OFPPacketIn' ? [Number(m.data.toString())] : [],
      );
      // an answer to what was given up, and forgotten for the sake of what came later, is told like any other message
      const others = controller.told.messages.flatMap((m) => (m.cls === 'OFPPacketIn' ? [] : [m.cls]));
      const isForgetful = c.stats.sentMessages > LIMITS.rememberMessages;
      for (const cls of others) expect([cls, isForgetful]).toEqual([expect.stringMatching(ANSWERS), true]);
      expect(frames).toEqual(Array.from({ length: frames.length }, (_, i) => i));
      if (c.isUp && sw.connection.isUp) {
        expect(wasUp).toBe(true);
        expect(frames).toHaveLength(events);
        seen.late += c.stats.lateReplies;
        // no refusal is lost and none is told twice: to a request, to a transaction, or to onError
        const told = [
          ...asked.flatMap(({ outcome }) => (outcome.error instanceof OfRequestError ? [outcome.error] : [])),
          ...batches.flatMap(({ outcome }) => outcome.value?.errors ?? []),
          ...controller.told.errors,
        ];
        expect(told.length).toBe(refusals);
        expect(new Set(told).size).toBe(refusals);
      }
      expect(c.stats).toMatchObject({ openRequests: 0, unfinishedBytes: 0 });
      expect(controller.told.down.length).toBeLessThanOrEqual(1);
      expect(controller.told.bad.concat(sw.told.bad)).toEqual([]);
    }),
    runs(300),
  );
  for (const [what, n] of Object.entries(seen)) expect([what, n]).not.toEqual([what, 0]);
}, 120_000);

test('both ends of any two that can agree come to the same version, and no chunking matters', () => {
  const versions = fc.subarray([1, 3, 4, 5, 6] as const, { minLength: 1 });
  let agreed = 0;
  fc.assert(
    fc.property(
      versions,
      versions,
      fc.option(fc.constantFrom(1, 3, 4, 5, 6)),
      fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 10 }),
      (ours, theirs, prefer, sizes) => {
        const a = new End({ versions: ours, prefer: prefer === null ? [] : [prefer as 4], askFeatures: false });
        const b = new End({ role: 'switch', versions: theirs });
        const both = new BackToBack(a, b).open();
        both.pass(1000, () => both.flush());
        for (
          let i = 0;
          both.move('controller', sizes[i % sizes.length]) || both.move('switch', sizes[(i + 1) % sizes.length]);
          i++
        );
        const common = ours.filter((v) => theirs.includes(v));
        const [va, vb] = [a.connection.version, b.connection.version];
        if (va !== undefined && vb !== undefined) {
          agreed++;
          expect(va).toBe(vb);
          expect(common).toContain(va);
        } else {
          // whoever finds no common version tells the other
          expect(a.told.down).toHaveLength(1);
          expect(b.told.down).toHaveLength(1);
          expect([a.told.down[0]?.code, b.told.down[0]?.code]).toContain('version');
        }
        if (Math.max(...ours) >= 4 && Math.max(...theirs) >= 4 && common.length > 0) expect(va).toBeDefined();
      },
    ),
    runs(500),
  );
  expect(agreed).toBeGreaterThan(0);
});

const FACTORIES = { 1: of10, 3: of12, 4: of13, 5: of14, 6: of15 };
test.each(VERSIONS)(
  'a hostile peer of version %i: nothing escapes, nothing grows, what is written stays well-formed',
  async (version) => {
    const f = FACTORIES[version];
    const downs = new Set<string>();
    let bad = 0;
    const edit = fc.tuple(fc.nat(), fc.oneof(fc.constantFrom(0, 1, 7, 8, 255), fc.nat(255)));
    const piece = fc.oneof(
      {
        weight: 6,
        arbitrary: fc
          .tuple(anyMessage({ plain: false, version }), fc.array(edit, { maxLength: 4 }), fc.nat(30))
          .map(([message, edits, xid]) => ({ message, edits, xid })),
      },
      { weight: 1, arbitrary: fc.record({ raw: fc.uint8Array({ maxLength: 40 }) }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 30 }),
        chunk,
        fc.boolean(),
        fc.boolean(),
        async (pieces, size, isSwitch, reads) => {
          const end = new End<Version>({ ...LIMITS, versions: [version], role: isSwitch ? 'switch' : 'controller' });
          end.connection.open(end.transport(), 0);
          if (!reads) end.out.capacity = 1;
          const stream = [Buffer.from(encode(f.OFPHello())), encode(f.OFPSwitchFeatures({ datapath_id: 1n }), 2)];
          for (const p of pieces) {
            if ('raw' in p) {
              stream.push(Buffer.from(p.raw));
              continue;
            }
            const bytes = Buffer.from(encode(p.message, p.xid));
            const { length } = bytes;
            for (const [at, v] of p.edits) bytes[at % length] = v;
            // most of the time the stream stays readable: what is inside is what is tried
            if (p.edits.length !== 4) {
              bytes[0] = version;
              bytes.writeUInt16BE(length, 2);
            }
            stream.push(bytes);
          }
          const all = Buffer.concat(stream);
          const watched: Outcome<unknown>[] = [];
          let now = 0;
          for (let at = 0; at < all.length; at += size) {
            end.connection.received(all.subarray(at, at + size), now);
            if (end.connection.isUp && watched.length < 20) {
              watched.push(
                watch(end.connection.request(f.OFPTableStatsRequest())),
                watch(end.connection.barrier()),
                watch(end.connection.transaction([f.OFPSetConfig({ flags: 0, miss_send_len: 0 })])),
              );
            }
            end.connection.flush(now);
            now += 5;
            const s = end.connection.stats;
            expect(s.unfinishedBytes).toBeLessThanOrEqual(LIMITS.maxUnfinishedBytes);
            expect(s.rememberedMessages).toBeLessThanOrEqual(LIMITS.rememberMessages);
            expect(s.queuedBytes).toBeLessThan(150_000);
          }
          end.connection.tick(now + 60_000);
          end.connection.closed();
          await microtasks();
          expect(watched.map((w) => w.times)).toEqual(watched.map(() => 1));
          expect(end.told.down).toHaveLength(1);
          downs.add(end.told.down[0]?.code ?? '');
          bad += end.told.bad.length;
          const out = new MessageSplitter();
          const messages = out.push(end.out.take(1e9));
          expect(out.pending).toBe(0);
          expect(messages.every((m) => m[0] === version || (m[1] as number) <= 3)).toBe(true);
        },
      ),
      runs(120),
    );
    expect(bad).toBeGreaterThan(0);
    expect(downs).toContain('closed');
    expect(downs.size).toBeGreaterThan(1);
  },
  120_000,
);
