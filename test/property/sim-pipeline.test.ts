/** The emulated flow tables against a plain reading of the specification, and undoing what was done. */
import fc from 'fast-check';
import { decodeAs, encode, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { ETH_IPV4, type Packet } from '../../sim/packet.ts';
import type { FlowMod } from '../../sim/switch/entries.ts';
import { FlowTables } from '../../sim/switch/flowTables.ts';

// Few values, so that matches hit and overlap.
const mac = fc.constantFrom('52:54:00:00:00:01', '52:54:00:00:00:02', '01:00:5e:00:00:01');
const ip = fc.constantFrom('10.0.0.1', '10.0.1.1', '10.1.0.1');
const mask = fc.constantFrom('255.255.255.255', '255.255.255.0', '255.255.0.0');
const port = fc.integer({ min: 1, max: 4 });

const toNumber = (text: string) => text.split('.').reduce((n, part) => n * 256 + Number(part), 0);
const toText = (n: number) => [24, 16, 8, 0].map((s) => (n >>> s) & 255).join('.');
const masked = (address: string, m: string) => toText((toNumber(address) & toNumber(m)) >>> 0);

const optional = <T>(a: fc.Arbitrary<T>) => fc.option(a, { nil: undefined });
const rule = fc.record({
  priority: fc.nat(3),
  inPort: optional(port),
  ethDst: optional(mac),
  ipv4Dst: optional(fc.tuple(ip, mask)),
  tcpDst: optional(fc.constantFrom(80, 443)),
  out: port,
});
type Rule = typeof rule extends fc.Arbitrary<infer R> ? R : never;

const packet = fc.record({
  eth_dst: mac,
  eth_src: mac,
  ipv4_dst: ip,
  tcp_dst: fc.constantFrom(80, 443),
  inPort: port,
});
type Probe = typeof packet extends fc.Arbitrary<infer R> ? R : never;

function flowMod(r: Rule, command: number = ofp.OFPFC_ADD): FlowMod {
  const needsIp = r.ipv4Dst !== undefined || r.tcpDst !== undefined;
  const match = of13.OFPMatch({
    in_port: r.inPort,
    eth_dst: r.ethDst,
    eth_type: needsIp ? ETH_IPV4 : undefined,
    ip_proto: r.tcpDst === undefined ? undefined : 6,
    ipv4_dst: r.ipv4Dst,
    tcp_dst: r.tcpDst,
  });
  const actions = [of13.OFPActionOutput({ port: r.out })];
  const mod = of13.OFPFlowMod({
    command,
    priority: r.priority,
    match,
    out_port: ofp.OFPP_ANY,
    out_group: ofp.OFPG_ANY,
    instructions: [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions })],
  });
  // As a switch would get it.
  return decodeAs(4, encode(mod, 1)) as FlowMod;
}

const toPacket = (p: Probe): Packet => ({
  eth_dst: p.eth_dst,
  eth_src: p.eth_src,
  eth_type: ETH_IPV4,
  ip_proto: 6,
  ipv4_src: '10.9.9.9',
  ipv4_dst: p.ipv4_dst,
  tcp_src: 1000,
  tcp_dst: p.tcp_dst,
});

/** What makes two rules the same entry. */
const keyOf = (r: Rule) =>
  JSON.stringify([
    r.priority,
    r.inPort,
    r.ethDst,
    r.ipv4Dst === undefined ? undefined : [masked(...r.ipv4Dst), r.ipv4Dst[1]],
    r.tcpDst,
    r.tcpDst !== undefined || r.ipv4Dst !== undefined,
  ]);

const hits = (r: Rule, p: Probe) =>
  (r.inPort === undefined || r.inPort === p.inPort) &&
  (r.ethDst === undefined || r.ethDst === p.eth_dst) &&
  (r.ipv4Dst === undefined || masked(p.ipv4_dst, r.ipv4Dst[1]) === masked(...r.ipv4Dst)) &&
  (r.tcpDst === undefined || r.tcpDst === p.tcp_dst);

/** Where the packet may come out: of the rules with the highest priority that hit, any (they overlap). */
function expected(rules: readonly Rule[], p: Probe): number[] {
  const last = [...new Map(rules.map((r) => [keyOf(r), r])).values()].filter((r) => hits(r, p));
  const highest = Math.max(...last.map((r) => r.priority));
  return last.filter((r) => r.priority === highest).map((r) => r.out);
}

test('a packet follows one of the highest matching flows', () => {
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 12 }),
      fc.array(packet, { minLength: 1, maxLength: 8 }),
      (rules, probes) => {
        const tables = new FlowTables();
        for (const r of rules) expect(tables.apply(flowMod(r))).toEqual([]);
        for (const p of probes) {
          const { outputs, matchedFlows } = tables.process(toPacket(p), p.inPort);
          const may = expected(rules, p);
          expect(matchedFlows.length > 0).toBe(may.length > 0);
          if (may.length === 0) expect(outputs).toEqual([]);
          // Out of the port it came in by means nowhere.
          else if (outputs[0] === undefined) expect(may).toContain(p.inPort);
          else expect(may).toContain(outputs[0].port);
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('an add followed by its strict delete leaves what was there, and a delete of all leaves nothing', () => {
  const present = (t: FlowTables) => t.flows().map((f) => [f.priority, f.tests, f.instructions]);
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 10 }), rule, (rules, extra) => {
      fc.pre(!rules.some((r) => keyOf(r) === keyOf(extra)));
      const tables = new FlowTables();
      for (const r of rules) tables.apply(flowMod(r));
      const before = present(tables);
      tables.apply(flowMod(extra));
      expect(tables.flows()).toHaveLength(before.length + 1);
      tables.apply(flowMod(extra, ofp.OFPFC_DELETE_STRICT));
      expect(present(tables)).toEqual(before);
      tables.apply(
        of13.OFPFlowMod({
          command: ofp.OFPFC_DELETE,
          table_id: ofp.OFPTT_ALL,
          out_port: ofp.OFPP_ANY,
          out_group: ofp.OFPG_ANY,
        }),
      );
      expect(tables.flows()).toEqual([]);
    }),
    { numRuns: 300 },
  );
});

test('a loose delete removes what it covers and nothing else', () => {
  fc.assert(
    fc.property(
      fc.array(rule, { maxLength: 10 }),
      fc.record({ inPort: optional(port), ethDst: optional(mac) }),
      (rules, by) => {
        const tables = new FlowTables();
        for (const r of rules) tables.apply(flowMod(r));
        const match = of13.OFPMatch({ in_port: by.inPort, eth_dst: by.ethDst });
        tables.apply(
          of13.OFPFlowMod({ command: ofp.OFPFC_DELETE, match, out_port: ofp.OFPP_ANY, out_group: ofp.OFPG_ANY }),
        );
        const isCovered = (r: Rule) =>
          (by.inPort === undefined || r.inPort === by.inPort) && (by.ethDst === undefined || r.ethDst === by.ethDst);
        const kept = new Set(rules.filter((r) => !isCovered(r)).map(keyOf));
        expect(tables.flows()).toHaveLength(kept.size);
      },
    ),
    { numRuns: 300 },
  );
});
