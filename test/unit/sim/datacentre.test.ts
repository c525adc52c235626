/** The data centre without a controller: flows are put into its switches by hand, and traffic follows them. */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import type { GuestInfo } from '../../../contracts/agent.ts';
import { type Clock, systemClock } from '../../../contracts/clock.ts';
import { silentLog } from '../../../contracts/log.ts';
import { OvsdbClient } from '../../../controller/io/ovsdb.ts';
import { QosManager } from '../../../controller/io/qos.ts';
import { DataCentre, type DataCentreSpec } from '../../../sim/datacentre.ts';
import type { EmulatedSwitch } from '../../../sim/switch/emulatedSwitch.ts';

const MBPS = 1e6;

/** A clock that moves when it is told to. */
class ManualClock implements Clock {
  #now = 1_000_000;
  readonly #timers = new Set<{ at: number; every: number | undefined; fn: () => void }>();
  now(): number {
    return this.#now;
  }
  after(ms: number, fn: () => void): () => void {
    return this.#add({ at: this.#now + ms, every: undefined, fn });
  }
  every(ms: number, fn: () => void): () => void {
    return this.#add({ at: this.#now + ms, every: ms, fn });
  }
  #add(t: { at: number; every: number | undefined; fn: () => void }): () => void {
    this.#timers.add(t);
    return () => this.#timers.delete(t);
  }
  /** Moves on, runs what is due in order, and lets packets travel. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#now = due.at;
      if (due.every === undefined) this.#timers.delete(due);
      else due.at += due.every;
      due.fn();
      await Promise.resolve();
    }
    this.#now = end;
  }
}

const spec: DataCentreSpec = {
  switches: ['left', 'right'],
  links: [{ a: 'left', b: 'right', capacityBps: 100 * MBPS }],
  hosts: [
    { name: 'left', migrationIp: '10.0.0.1' },
    { name: 'right', migrationIp: '10.0.0.2' },
  ],
  clients: [
    { name: 'user', switch: 'right', ip: '10.0.2.1', speedBps: 1000 * MBPS },
    { name: 'store', switch: 'left', ip: '10.0.2.2', speedBps: 1000 * MBPS },
  ],
  workload: [{ id: 'w', from: 'store', to: 'user', offeredBps: 80 * MBPS, connections: 1 }],
  guestBps: 1000 * MBPS,
  hostBps: 1000 * MBPS,
};
const stream = { sourceIp: '10.0.0.1', destinationIp: '10.0.0.2', sourcePort: 0, destinationPort: 49152 };
const WIRE = 1514 / 1448;

const guest = (name: string, state: GuestInfo['state']): GuestInfo => ({
  spec: { name, mac: '52:54:00:00:00:01', memoryMiB: 256, vcpus: 1, machine: 'pc', accel: 'emulated', ip: '10.0.1.1' },
  state,
  portName: `tap-${name}`,
});

/** Every switch learns by itself. */
function learnEverywhere(dc: DataCentre): void {
  for (const device of dc.switches.values()) {
    const instructions = [
      of13.OFPInstructionActions({
        type: ofp.OFPIT_APPLY_ACTIONS,
        actions: [of13.OFPActionOutput({ port: ofp.OFPP_NORMAL })],
      }),
    ];
    expect(device.tables.apply(of13.OFPFlowMod({ priority: 1, instructions }))).toEqual([]);
  }
}

describe('the data centre', () => {
  let clock: ManualClock;
  let dc: DataCentre;
  let left: EmulatedSwitch;
  let right: EmulatedSwitch;
  const link = () => (dc.links.find((l) => l.from === 'left') as { id: string }).id;
  const last = () => dc.history(link()).at(-1);

  async function start(hasQueues: boolean, o: Partial<DataCentreSpec> = {}): Promise<ReadonlyMap<string, string>> {
    clock = new ManualClock();
    dc = new DataCentre({ ...spec, ...o }, { clock, hasQueues });
    const databases = await dc.open();
    // Nobody listens there: these tests need no controller.
    dc.start({ host: '127.0.0.1', port: 1 });
    left = dc.switches.get('left') as EmulatedSwitch;
    right = dc.switches.get('right') as EmulatedSwitch;
    return databases;
  }
  afterEach(() => dc.stop());

  test('nothing flows where no flow leads; then it does, and is counted on the way', async () => {
    await start(false);
    await clock.advance(2000);
    expect(last()).toMatchObject({ workloadBps: 0, wantedBps: 0 });
    learnEverywhere(dc);
    await clock.advance(3000);
    expect(last()?.workloadBps).toBeCloseTo(80 * MBPS, -3);
    const uplink = left.portNamed('left-right');
    const far = right.portNamed('right-left');
    expect(uplink?.txBytes).toBeGreaterThan(10e6);
    expect(far?.rxBytes).toBeCloseTo(uplink?.txBytes ?? 0, -3);
    expect(left.tables.flows()[0]?.bytes).toBeGreaterThan(10e6);
  });

  test('a migration stream shares the link, and hurts the workload where nothing holds it back', async () => {
    await start(false);
    learnEverywhere(dc);
    await clock.advance(2000);
    expect(dc.streamBps('m1', stream, 30 * MBPS)).toBeCloseTo(30 * MBPS, -3);
    await clock.advance(2000);
    expect(last()?.migrationBps).toBeCloseTo(30 * MBPS * WIRE, -3);
    expect(last()?.workloadBps).toBeCloseTo(100 * MBPS - 30 * MBPS * WIRE, -3);
    expect(last()?.wantedBps).toBeCloseTo(80 * MBPS, -3);
    dc.dropStream('m1');
    await clock.advance(2000);
    expect(last()).toMatchObject({ migrationBps: 0 });
    expect(last()?.workloadBps).toBeCloseTo(80 * MBPS, -3);
  });

  test('a meter polices the stream', async () => {
    await start(false);
    learnEverywhere(dc);
    left.tables.apply(of13.OFPMeterMod({ meter_id: 1, bands: [of13.OFPMeterBandDrop({ rate: 10_000 })] }));
    const match = of13.OFPMatch({ eth_type: 0x0800, ip_proto: 6, tcp_dst: 49152 });
    left.tables.apply(
      of13.OFPFlowMod({
        priority: 9,
        match,
        instructions: [
          of13.OFPInstructionMeter({ meter_id: 1 }),
          of13.OFPInstructionActions({
            type: ofp.OFPIT_APPLY_ACTIONS,
            actions: [of13.OFPActionOutput({ port: ofp.OFPP_NORMAL })],
          }),
        ],
      }),
    );
    await clock.advance(2000);
    expect(dc.streamBps('m1', stream, 30 * MBPS)).toBeCloseTo((10 * MBPS) / WIRE, -2);
    await clock.advance(1000);
    expect(left.tables.meter(1)?.bytesIn).toBeCloseTo((10 * MBPS) / 8, -4);
  });

  test('queues in the switch’s database guarantee the workload its share', async () => {
    const databases = await start(true);
    learnEverywhere(dc);
    await clock.advance(2000);
    expect(dc.streamBps('m1', stream, 1000 * MBPS)).toBeCloseTo((50 * MBPS) / WIRE, -2);
    const remote = databases.get(left.dpid) as string;
    const client = new OvsdbClient({ remote, clock: systemClock(), log: silentLog });
    const manager = new QosManager(client, silentLog);
    const queues = [
      { id: 0, minBps: 70 * MBPS, maxBps: 100 * MBPS, priority: 0 },
      { id: 1, minBps: 20 * MBPS, maxBps: 100 * MBPS, priority: 1 },
    ];
    await manager.applyPort('left-right', { maxBps: 100 * MBPS, queues });
    const match = of13.OFPMatch({ eth_type: 0x0800, ip_proto: 6, tcp_dst: 49152 });
    const actions = [of13.OFPActionSetQueue({ queue_id: 1 }), of13.OFPActionOutput({ port: ofp.OFPP_NORMAL })];
    const instructions = [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions })];
    left.tables.apply(of13.OFPFlowMod({ priority: 9, match, instructions }));
    await clock.advance(1000);
    // The workload borrows first: it has all it wants, the stream the rest.
    expect(dc.streamBps('m1', stream, 1000 * MBPS)).toBeCloseTo((20 * MBPS) / WIRE, -2);
    dc.offer('w', 200 * MBPS);
    await clock.advance(1000);
    expect(dc.streamBps('m1', stream, 1000 * MBPS)).toBeCloseTo((20 * MBPS) / WIRE, -2);
    dc.offer('w', 10 * MBPS);
    await clock.advance(1000);
    expect(dc.streamBps('m1', stream, 1000 * MBPS)).toBeCloseTo((90 * MBPS) / WIRE, -2);
    expect(left.portNamed('left-right')?.queues.get(1)?.txBytes).toBeGreaterThan(0);
    await manager.clearAll();
    await client.close();
  });

  test('a guest is plugged in where it runs, its traffic stops while it runs nowhere, and goes on at its new place', async () => {
    const workload = [{ id: 'g', from: 'user', to: 'vm', offeredBps: 40 * MBPS, connections: 1 }];
    await start(false, { workload });
    learnEverywhere(dc);
    let here: GuestInfo[] = [guest('vm', 'running')];
    let there: GuestInfo[] = [];
    dc.watchGuests('left', () => here);
    dc.watchGuests('right', () => there);
    const back = () => dc.history((dc.links.find((l) => l.from === 'right') as { id: string }).id).at(-1);
    await clock.advance(3000);
    expect(left.portNamed('tap-vm')).toBeDefined();
    expect(back()?.workloadBps).toBeCloseTo(40 * MBPS, -3);

    there = [guest('vm', 'incoming')];
    dc.guestsChanged();
    expect(right.portNamed('tap-vm')).toBeDefined();
    here = [guest('vm', 'paused')];
    dc.guestsChanged();
    await clock.advance(250);
    expect(dc.longestSilenceMs('vm')).toBeGreaterThanOrEqual(250);
    here = [];
    there = [guest('vm', 'running')];
    dc.guestsChanged();
    const silence = dc.longestSilenceMs('vm');
    await clock.advance(3000);
    expect(left.portNamed('tap-vm')).toBeUndefined();
    expect(dc.longestSilenceMs('vm')).toBe(silence);
    // It is a neighbour of its user now: the link between the switches is free.
    expect(back()?.workloadBps).toBe(0);
    expect(right.portNamed('tap-vm')?.txBytes).toBeGreaterThan(10e6);
  });
});
