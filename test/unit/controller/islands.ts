/**
 * For tests of guests away from home: the two fabrics of `fabric.ts` that only an IP network joins, with agents that do what they
 * are asked, and migrations from their request to their end.
 */

import type { TunnelSettings } from '../../../controller/core/state.ts';
import { isTunnelName, tunnelName } from '../../../controller/core/tunnels.ts';
import { arpPacket, type Packet } from '../../../sim/packet.ts';
import {
  CLIENT_MAC,
  CORE_1,
  CORE_2,
  type Fabric,
  type FabricOptions,
  guest,
  HV1,
  HV2,
  HV3,
  twoIslands,
} from './fabric.ts';

const ADDRESSES: Record<string, string> = { [HV1]: '192.0.2.1', [HV2]: '198.51.100.2', [HV3]: '198.51.100.3' };
export const tunnels: TunnelSettings = { kind: 'vxlan', use: 'fallback', addressOf: (dpid) => ADDRESSES[dpid] };
export const CLIENT_2 = '52:54:00:00:00:c2';
const progress = {
  ...{ phase: 'pre-copy' as const, elapsedMs: 1000, transferredBytes: 1, remainingBytes: 1, totalBytes: 2 },
  ...{ passes: 1, rateBps: 1, dirtyBytesPerS: 0 },
};
export const ip = (from: string, to: string): Packet => ({ eth_src: from, eth_dst: to, eth_type: 0x0800, ip_proto: 1 });
export const outOf = (f: Fabric, dpid: string, port: number, p: Packet) =>
  f
    .inject(dpid, port, p)
    .map((o) => o.at)
    .sort();

/** Fabrics whose hosts have been heard, and agents that do what they are asked. */
export function islands(o: FabricOptions = {}, guests = [guest()], before: (f: Fabric) => void = () => {}): Fabric {
  const f = twoIslands({ tunnels, ...o }, guests);
  f.answer = (host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 0 } };
    if (c.do !== 'prepare') return { value: {} };
    const portName = c.guest.name === 'g1' ? 'tap1' : 'tap2';
    return { value: { address: `10.1.0.${host.slice(-1)}`, port: 49152, portName } };
  };
  before(f);
  f.pass(1000);
  f.pass(1000);
  f.inject(CORE_1, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.7' }));
  f.inject(CORE_2, 3, arpPacket({ op: 1, sha: CLIENT_2, spa: '10.1.0.100', tpa: '10.1.0.7' }));
  return f;
}
export const jobOf = (f: Fabric, id: string) =>
  f.state.jobs.get(id) as NonNullable<ReturnType<typeof f.state.jobs.get>>;
export const say = (
  f: Fabric,
  host: string,
  migration: string,
  event: 'preSwitchover' | 'resumed' | 'completed' | 'failed',
) => f.send({ kind: 'agentMessage', host, message: { type: 'event', migration, event, progress } });

export function ask(f: Fabric, id: string, destination: string, name = 'g1'): void {
  const moves = [{ guest: name, destination }];
  f.send({ kind: 'migrate', request: { moves, priority: 'high' }, ids: [id], group: null });
  f.pass(250);
  f.pass(250);
}
/** Who has which guests, as agents report them. */
export function report(f: Fabric, at: Record<string, ReturnType<typeof guest>[]>): void {
  for (const [host, guests] of Object.entries(at))
    f.send({ kind: 'agentMessage', host, message: { type: 'guests', guests } });
}
/** A migration from its request to its end. */
export function move(f: Fabric, id: string, from: string, to: string, moved = guest()): void {
  ask(f, id, to, moved.spec.name);
  expect([jobOf(f, id).state, jobOf(f, id).note]).toEqual(['copying', null]);
  say(f, from, id, 'preSwitchover');
  say(f, to, id, 'resumed');
  say(f, from, id, 'completed');
  const stays = (host: string) => f.state.agents.get(host)?.guests.filter((g) => g.spec.name !== moved.spec.name) ?? [];
  report(f, { [from]: stays(from), [to]: [...stays(to), moved] });
  for (let i = 0; i < 6 && jobOf(f, id).state !== 'done'; i++) f.pass(1000);
  expect(jobOf(f, id).state).toBe('done');
}
export const portsOfTunnels = (f: Fabric) =>
  [...f.switches].flatMap(([dpid, s]) => [...s.ports.values()].filter(isTunnelName).map((n) => `${dpid}/${n}`)).sort();
export const pair = (a: string, b: string) => [`${a}/${tunnelName(b)}`, `${b}/${tunnelName(a)}`].sort();
