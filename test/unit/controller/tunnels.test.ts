/** Tunnels across IP networks in `controller/core`: when there is one, who waits for it, what goes through, what is left. */
import type { CopyProgress } from '../../../contracts/agent.ts';
import { parseCookie } from '../../../controller/core/cookies.ts';
import type { Effect, TunnelKind } from '../../../controller/core/events.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import type { TunnelSettings } from '../../../controller/core/state.ts';
import { isTunnelName, tunnelName, tunnelOverhead, tunnelsWanted } from '../../../controller/core/tunnels.ts';
import { arpPacket, type Packet } from '../../../sim/packet.ts';
import {
  CLIENT_MAC,
  CORE,
  Fabric,
  type FabricOptions,
  GUEST_MAC,
  HV1,
  HV2,
  LOCAL,
  twoHypervisors,
  UPLINK,
} from './fabric.ts';

const ADDRESSES: Record<string, string> = { [HV1]: '192.0.2.1', [HV2]: '192.0.2.2' };
const settings = (more: Partial<TunnelSettings> = {}): TunnelSettings => ({
  kind: 'vxlan',
  use: 'always',
  addressOf: (dpid) => ADDRESSES[dpid],
  ...more,
});
const progress: CopyProgress = {
  ...{ phase: 'pre-copy', elapsedMs: 1000, transferredBytes: 1, remainingBytes: 1, totalBytes: 2, passes: 1 },
  ...{ rateBps: 1, dirtyBytesPerS: 0 },
};
const toGuest: Packet = { eth_src: CLIENT_MAC, eth_dst: GUEST_MAC, eth_type: 0x0800, ip_proto: 1 };
const straggler = (f: Fabric, port = UPLINK) => f.inject(HV1, port, toGuest).map((o) => o.at);

/** A fabric whose guest is asked to move; the destination is prepared when `prepared`. */
function asked(o: FabricOptions = {}, before: (f: Fabric) => void = () => {}): Fabric {
  const f = twoHypervisors({ tunnels: settings(), ...o });
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 0 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
    return { value: {} };
  };
  before(f);
  f.pass(1000);
  f.pass(1000);
  const moves = [{ guest: 'g1', destination: 'hv2' }];
  f.send({ kind: 'migrate', request: { moves, priority: 'high' }, ids: ['m-1'], group: null });
  f.pass(250);
  return f;
}
const job = (f: Fabric) => f.state.jobs.get('m-1') as NonNullable<ReturnType<typeof f.state.jobs.get>>;
const rules = (f: Fabric) => job(f).reasons.map((r) => r.rule);
const say = (f: Fabric, host: string, event: 'preSwitchover' | 'resumed' | 'completed' | 'failed') =>
  f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: 'm-1', event, progress } });
const flip = (f: Fabric) => {
  f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
  say(f, 'hv1', 'preSwitchover');
};
const tunnelPorts = (f: Fabric) =>
  [...f.switches].flatMap(([dpid, s]) => [...s.ports.values()].filter(isTunnelName).map((name) => `${dpid}/${name}`));
const orders = (f: Fabric) => f.effects.filter((e): e is Extract<Effect, { kind: 'tunnel' }> => e.kind === 'tunnel');
const ofMigration = (f: Fabric) =>
  [...f.switches.values()].flatMap((s) => s.tables.flows()).filter((x) => (parseCookie(x.cookie)?.objectId ?? 0) > 0);

describe('a move whose stragglers go through a tunnel', () => {
  test('both ends are made while the destination prepares, and a probe goes through before the copy starts', () => {
    const f = asked();
    expect(tunnelPorts(f).sort()).toEqual([`${HV1}/${tunnelName(HV2)}`, `${HV2}/${tunnelName(HV1)}`]);
    expect(orders(f).map((o) => o.port)).toMatchObject([
      { dpid: HV1, kind: 'vxlan', localAddress: '192.0.2.1', remoteAddress: '192.0.2.2' },
      { dpid: HV2, kind: 'vxlan', localAddress: '192.0.2.2', remoteAddress: '192.0.2.1' },
    ]);
    expect(job(f).state).toBe('copying');
    expect(rules(f).indexOf('tunnel.ready')).toBeLessThan(rules(f).indexOf('reservation.enforced'));
    expect(rules(f)).toContain('tunnel.ready');
  });

  test('the copy waits while no probe comes through, and then does without, telling where to look', () => {
    const f = asked({}, (x) => {
      x.tunnelsBlocked = true;
    });
    expect(job(f).state).toBe('preparing');
    f.pass(8000);
    expect(job(f).state).toBe('copying');
    expect(job(f).detour).toEqual({ by: 'label' });
    const why = job(f).reasons.find((r) => r.rule === 'tunnel.givenUp')?.text;
    expect(why).toMatch(/no probe came through the vxlan tunnel within 8 s: .*UDP port 4789/);
    expect(tunnelPorts(f)).toEqual([]);
    flip(f);
    expect(straggler(f)).toEqual([`${HV2}:2`]);
  });

  test('a switch that cannot make the port is named, and the label is used', () => {
    const f = asked({}, (x) => {
      x.tunnelNote = (dpid) => (dpid === HV2 ? 'could not add network device' : '');
    });
    expect(job(f)).toMatchObject({ state: 'copying', detour: { by: 'label' } });
    expect(job(f).reasons.find((r) => r.rule === 'tunnel.givenUp')?.text).toMatch(
      /could not add network device; .*label/,
    );
    expect(tunnelPorts(f)).toEqual([]);
  });

  test.each(['managed', 'normal'] as const)(
    'stragglers reach the guest, and no switch between needs a label (%s)',
    (forwarding) => {
      const f = asked({ forwarding });
      flip(f);
      expect(straggler(f)).toEqual([`${HV2}:2`]);
      expect(straggler(f, 3)).toEqual([`${HV2}:2`]);
      const labels = ofMigration(f).filter((x) => x.match.fields.vlan_vid !== undefined);
      expect(labels).toEqual([]);
      // The fabric between is asked for nothing but ordinary forwarding.
      const core = f.switches.get(CORE)?.tables.flows() ?? [];
      expect(
        core.filter((x) => x.match.fields.tunnel_id !== undefined || x.match.fields.vlan_vid !== undefined),
      ).toEqual([]);
    },
  );

  test('nothing but stragglers of its migration comes out of a tunnel', () => {
    const f = asked();
    flip(f);
    const [, portNo] = [...f.state.tunnelPorts].find(([id]) => id.startsWith(HV2)) as [string, number];
    expect(f.inject(HV2, portNo, toGuest)).toEqual([]);
    expect(f.inject(HV2, portNo, { ...toGuest, eth_dst: 'ff:ff:ff:ff:ff:ff' })).toEqual([]);
  });

  test('broadcasts are not flooded into it, it is no link, and nobody is located behind it', () => {
    const f = asked();
    f.pass(2500);
    f.pass(2500);
    const isKnown = (dpid: string) =>
      [...(f.state.topology.switches.get(dpid)?.ports.values() ?? [])].map((p) => p.name);
    expect([...isKnown(HV1), ...isKnown(HV2)].filter(isTunnelName)).toEqual([]);
    expect(f.state.topology.links.size).toBe(4);
    const out = f.inject(CORE, 3, { ...toGuest, eth_dst: 'ff:ff:ff:ff:ff:ff' }).map((o) => o.at);
    expect(new Set(out).size).toBe(out.length);
    expect(out.sort()).toEqual(
      [`${HV1}:2`, `${HV1}:3`, `${HV1}:${LOCAL}`, `${HV2}:2`, `${HV2}:3`, `${HV2}:${LOCAL}`].sort(),
    );
  });

  test('ports and flows are taken down when no straggler has come for a while', () => {
    const f = asked();
    flip(f);
    say(f, 'hv2', 'resumed');
    say(f, 'hv1', 'completed');
    f.pass(1000);
    straggler(f);
    f.pass(1000);
    expect(job(f).state).toBe('draining');
    expect(tunnelPorts(f)).toHaveLength(2);
    f.pass(2500);
    expect(job(f)).toMatchObject({ state: 'done', stragglers: { packets: 1 } });
    expect(tunnelPorts(f)).toEqual([]);
    expect(ofMigration(f)).toEqual([]);
    expect(f.state.tunnels.size).toBe(0);
    expect(f.state.tunnelPorts.size).toBe(0);
  });

  test('a migration that fails leaves none', () => {
    const f = asked();
    say(f, 'hv1', 'failed');
    expect(job(f).state).toBe('failed');
    expect(tunnelPorts(f)).toEqual([]);
  });

  test('a controller that dies and returns wants the same ports, and no others', () => {
    const f = asked();
    const entries = journalOf(f.state, f.nowMs) as Record<string, unknown>[];
    const later = restoreJobs(new Fabric({ tunnels: settings() }).state, JSON.parse(JSON.stringify(entries)));
    expect([...tunnelsWanted(later).keys()].sort()).toEqual(tunnelPorts(f).sort());
  });

  test('after a switch was away its port is asked for again', () => {
    const f = asked();
    const before = orders(f).length;
    f.disconnect(HV1);
    f.connect(HV1);
    expect(orders(f).slice(before)).toMatchObject([{ dpid: HV1, port: { kind: 'vxlan' } }]);
    flip(f);
    expect(straggler(f)).toEqual([`${HV2}:2`]);
  });
});

describe('which way', () => {
  test('labels where the fabric has a way, unless tunnels are wanted always', () => {
    const f = asked({ tunnels: settings({ use: 'fallback' }) });
    expect(job(f)).toMatchObject({ state: 'copying', detour: { by: 'label' } });
    expect(orders(f)).toEqual([]);
  });

  test('labels where a switch has no address', () => {
    const f = asked({ tunnels: settings({ addressOf: (dpid) => (dpid === HV1 ? '192.0.2.1' : undefined) }) });
    expect(job(f)).toMatchObject({ state: 'copying', detour: { by: 'label' } });
    expect(orders(f)).toEqual([]);
  });
});

describe('MTU', () => {
  // Outer IPv4 + UDP + VXLAN, or GRE with its key, and the inner Ethernet header; IPv6's header is 20 bytes longer.
  test.each<[TunnelKind, string, number]>([
    ['vxlan', '192.0.2.1', 50],
    ['geneve', '192.0.2.1', 50],
    ['gre', '192.0.2.1', 42],
    ['vxlan', '2001:db8::1', 70],
  ])('%s to %s takes %i bytes', (kind, address, bytes) => {
    expect(tunnelOverhead(kind, address)).toBe(bytes);
  });

  const found = (mtus: Record<string, number>) => {
    const f = asked({}, (x) => {
      x.mtus = mtus;
    });
    return job(f).reasons.find((r) => r.rule === 'tunnel.mtu' || r.rule === 'tunnel.fits');
  };

  test('frames that do not fit are told of, with what to change', () => {
    const r = found({ tap1: 1500, up: 1500, br0: 9000 });
    expect(r).toMatchObject({ rule: 'tunnel.mtu', inputs: { guestMtu: 1500, overheadBytes: 50, underlayMtu: 1500 } });
    expect(r?.text).toContain('exceed the 1500 of port up');
    expect(r?.text).toContain('an MTU of at least 1550, or the guest one of at most 1450');
  });

  test('frames that fit to the byte fit', () => {
    expect(found({ tap1: 1450, up: 1500, br0: 9000 })?.rule).toBe('tunnel.fits');
    expect(found({ tap1: 1451, up: 1500, br0: 9000 })?.rule).toBe('tunnel.mtu');
  });

  test('nothing is claimed where the switch does not tell', () => {
    expect(found({})).toBeUndefined();
  });
});
