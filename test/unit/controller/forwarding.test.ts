/** Forwarding of `controller/core` asked as a person would: where does this packet come out? */
import { arpPacket, BROADCAST } from '../../../sim/packet.ts';
import { FlowTables } from '../../../sim/switch/flowTables.ts';
import { CLIENT_MAC, CORE, Fabric, GUEST_MAC, HV1, HV2, LOCAL, twoHypervisors, UPLINK } from './fabric.ts';

class FlowTablesFull extends FlowTables {
  constructor() {
    super({ maxFlows: 0 });
  }
}

const ping = (src: string, dst: string) => ({
  eth_src: src,
  eth_dst: dst,
  eth_type: 0x0800,
  ip_proto: 1,
  ipv4_src: '10.0.0.100',
  ipv4_dst: '10.0.0.9',
});
const places = (out: { at: string }[]) => out.map((o) => o.at).sort();

describe('discovery', () => {
  test('links are found in both directions, and only those', () => {
    const f = twoHypervisors();
    expect([...f.state.topology.links.keys()].sort()).toEqual(
      [`${CORE}:1`, `${CORE}:2`, `${HV1}:1`, `${HV2}:1`].sort(),
    );
  });

  test('a guest is where its agent says, a client where its first frame came in', () => {
    const f = twoHypervisors();
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    expect(f.state.topology.locations.get(GUEST_MAC)).toMatchObject({
      kind: 'guest',
      name: 'g1',
      at: { dpid: HV1, portNo: 2 },
    });
    expect(f.state.topology.locations.get(CLIENT_MAC)).toMatchObject({
      ip: '10.0.0.100',
      at: { dpid: CORE, portNo: 3 },
    });
  });

  test('the host behind a migration address is named', () => {
    const f = twoHypervisors();
    f.inject(HV1, LOCAL, arpPacket({ op: 1, sha: '0e:00:00:00:00:01', spa: '10.0.0.1', tpa: '10.0.0.2' }));
    expect(f.state.topology.locationByName('hv1')).toMatchObject({ kind: 'host', at: { dpid: HV1, portNo: LOCAL } });
  });

  test('a frame with a guest’s address from elsewhere moves nothing', () => {
    const f = twoHypervisors();
    f.inject(CORE, 3, ping(GUEST_MAC, CLIENT_MAC));
    expect(f.state.topology.locations.get(GUEST_MAC)?.at).toEqual({ dpid: HV1, portNo: 2 });
  });

  test('a link that falls silent is lost, one whose switch is away is kept', () => {
    const f = twoHypervisors();
    f.cables.delete(`${HV2}:${UPLINK}`);
    f.disconnect(HV1);
    for (let i = 0; i < 8; i++) f.pass(2100);
    expect(f.state.topology.links.has(`${HV2}:${UPLINK}`)).toBe(false);
    expect(f.state.topology.links.has(`${HV1}:${UPLINK}`)).toBe(true);
  });
});

describe.each(['managed', 'normal'] as const)('%s forwarding', (forwarding) => {
  test('broadcast reaches every edge port once, and no loop', () => {
    const f = twoHypervisors({ forwarding });
    const out = f.inject(
      CORE,
      3,
      arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.77', dst: BROADCAST }),
    );
    expect(places(out)).toEqual(
      [`${HV1}:2`, `${HV1}:3`, `${HV1}:${LOCAL}`, `${HV2}:2`, `${HV2}:3`, `${HV2}:${LOCAL}`].sort(),
    );
  });

  test('known addresses are reached directly', () => {
    const f = twoHypervisors({ forwarding });
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    f.inject(
      HV1,
      2,
      arpPacket({ op: 2, sha: GUEST_MAC, spa: '10.0.0.9', tha: CLIENT_MAC, tpa: '10.0.0.100', dst: CLIENT_MAC }),
    );
    expect(places(f.inject(CORE, 3, ping(CLIENT_MAC, GUEST_MAC)))).toEqual([`${HV1}:2`]);
    expect(places(f.inject(HV1, 2, ping(GUEST_MAC, CLIENT_MAC)))).toEqual([`${CORE}:3`]);
  });
});

test('bridge control frames are not passed on by managed forwarding', () => {
  const f = twoHypervisors({ forwarding: 'managed' });
  expect(f.inject(CORE, 3, { eth_src: CLIENT_MAC, eth_dst: '01:80:c2:00:00:00', eth_type: 0x0027 })).toEqual([]);
});

describe('desired state', () => {
  test('a switch that comes back is sent only the difference', () => {
    const f = twoHypervisors();
    f.disconnect(HV1);
    const before = f.effects.length;
    f.connect(HV1);
    expect(f.effects.slice(before).filter((e) => e.kind === 'write')).toEqual([]);
  });

  test('flows of ours that are no longer wanted go, others stay', () => {
    const f = twoHypervisors();
    const s = f.switches.get(CORE);
    const foreign = s?.tables.flows().length ?? 0;
    f.disconnect(CORE);
    f.send({
      kind: 'agentUp',
      host: 'hv1',
      hello: {
        type: 'hello',
        protocol: 'fairway-agent/1',
        host: 'hv1',
        dpid: HV1,
        migrationIp: '10.0.0.1',
        migrationPort: 'br0',
        driver: 'emulated',
        techniques: [],
        guests: [],
        migrations: [],
      },
    });
    f.state = { ...f.state, topology: f.state.topology.withoutLocation(GUEST_MAC) };
    f.connect(CORE);
    // The way to it, and the two for those who ask for it or hear of it.
    expect(s?.tables.flows().length).toBe(foreign - 3);
  });

  test('a refused flow is not tried again at once, but is later', () => {
    const f = new Fabric();
    f.addSwitch(CORE, { 1: 'a' });
    const s = f.switches.get(CORE);
    if (s) s.tables = new FlowTablesFull();
    f.connect(CORE);
    const writes = () => f.effects.filter((e) => e.kind === 'write').length;
    const first = writes();
    for (let i = 0; i < 4; i++) f.pass(250);
    expect(writes()).toBe(first);
    f.pass(11_000);
    expect(writes()).toBeGreaterThan(first);
  });
});
