/** What agents tell of hosts and guests: merged, shown, used for decisions; and downtime between clocks that differ. */
import { type AgentMessage, guestSpecSchema } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { modelOf } from '../../../controller/core/guestModel.ts';
import { downtimeBetween, guestTelemetry, instantOf } from '../../../controller/core/telemetry.ts';
import { migrationView, ratesView } from '../../../controller/core/views.ts';
import { compilePolicy, type GuestModel, predictCopy } from '../../../policies/index.ts';
import { type Fabric, HV2, twoHypervisors } from './fabric.ts';

const tell = (f: Fabric, host: string, message: Omit<Extract<AgentMessage, { type: 'telemetry' }>, 'type'>) =>
  f.send({ kind: 'agentMessage', host, message: { type: 'telemetry', ...message } });
const hostsView = (f: Fabric, host: string) => ratesView(f.state, f.nowMs).hosts.find((h) => h.host === host);
const guestView = (f: Fabric) => ratesView(f.state, f.nowMs).guests.find((g) => g.guest === 'g1');

test('only what changed is sent, and all of it is shown', () => {
  const f = twoHypervisors();
  expect(hostsView(f, 'hv1')).not.toHaveProperty('telemetry');
  tell(f, 'hv1', { host: { cpuShare: 0.5, memoryUsedBytes: 1e9 }, guests: [{ guest: 'g1', dirtyBytesPerS: 5e6 }] });
  tell(f, 'hv1', { host: { cpuShare: 0.25 }, guests: [{ guest: 'g1', workingSetBytes: 4e7 }] });
  expect(hostsView(f, 'hv1')?.telemetry).toEqual({ cpuShare: 0.25, memoryUsedBytes: 1e9 });
  expect(guestView(f)?.telemetry).toEqual({ dirtyBytesPerS: 5e6, workingSetBytes: 4e7 });
});

test('an agent speaks for its own guests only', () => {
  const f = twoHypervisors();
  tell(f, 'hv2', { guests: [{ guest: 'g1', dirtyBytesPerS: 1 }] });
  expect(guestTelemetry(f.state, 'g1')).toBeUndefined();
  expect(guestView(f)).not.toHaveProperty('telemetry');
});

test('no message of it makes the topology be told again', () => {
  const f = twoHypervisors();
  f.effects.length = 0;
  tell(f, 'hv1', { host: { cpuShare: 0.1 } });
  expect(f.effects).toEqual([]);
});

/** What the agents answer to `measureDirtyRate` decides between pre-copy and hybrid for a guest with mixed traffic. */
function techniqueFor(
  measured: { dirtyBytesPerS: number; workingSetBytes?: number | null } | undefined,
): string | null {
  const policy = structuredClone(DEFAULT_POLICY);
  policy.technique.allowed = ['pre-copy', 'hybrid', 'post-copy'];
  const f = twoHypervisors({ policy });
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return measured === undefined ? { error: 'no' } : { value: measured };
    return { value: c.do === 'prepare' ? { address: '10.0.0.2', port: 49152, portName: 'tap1' } : {} };
  };
  f.pass(1000);
  f.pass(1000);
  tell(f, 'hv1', { guests: [{ guest: 'g1', dirtyBytesPerS: 60e6, workingSetBytes: null }] });
  f.send({
    kind: 'migrate',
    request: { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' },
    ids: ['m-1'],
    group: null,
  });
  f.pass(250);
  return f.state.jobs.get('m-1')?.technique ?? null;
}

test('a small working set makes a fast writer converge; a large one, or one without a bound, does not', () => {
  // 100 Mbit/s of slice: 60 MB/s are far too fast, unless they are always the same megabyte.
  expect(techniqueFor({ dirtyBytesPerS: 60e6, workingSetBytes: 1e6 })).toBe('pre-copy');
  expect(techniqueFor({ dirtyBytesPerS: 60e6, workingSetBytes: 1e8 })).not.toBe('pre-copy');
  expect(techniqueFor({ dirtyBytesPerS: 60e6, workingSetBytes: null })).not.toBe('pre-copy');
});

test("what cannot be measured is taken from the agent's telemetry", () => {
  expect(techniqueFor(undefined)).not.toBe('pre-copy');
});

test('what is zero in a guest’s memory costs next to nothing', () => {
  const f = twoHypervisors();
  const spec = guestSpecSchema.parse({ name: 'g1', mac: '02:00:00:00:00:01', memoryMiB: 1024, vcpus: 1 });
  const model = (nonZeroBytes?: number | null) =>
    modelOf(f.state, {
      spec,
      guest: 'g1',
      dirtyBytesPerS: null,
      workingSetBytes: null,
      ...(nonZeroBytes === undefined ? {} : { nonZeroBytes }),
    });
  expect(model()).not.toHaveProperty('nonZeroBytes');
  expect(model(null)).not.toHaveProperty('nonZeroBytes');
  expect(model(3e8).nonZeroBytes).toBe(3e8);
  // Said of more than there is, as after memory was taken away: all of it.
  expect(model(3e9).nonZeroBytes).toBe(2 ** 30);
  tell(f, 'hv1', { guests: [{ guest: 'g1', nonZeroBytes: 2e8 }] });
  expect(model().nonZeroBytes).toBe(2e8);
  const policy = compilePolicy(DEFAULT_POLICY);
  const ms = (m: GuestModel) => predictCopy('stop-and-copy', m, 1e8, policy).totalMs;
  expect(ms(model(2 ** 28)) / ms({ ...model(), nonZeroBytes: 2 ** 30 })).toBeCloseTo(0.25, 1);
});

describe('downtime', () => {
  test('between two hosts whose clocks are known within bounds', () => {
    // The source is 100 to 104 ms ahead of the controller, the destination 50 to 51 ms behind.
    const stopped = instantOf(10_100, { lowMs: 100, highMs: 104 });
    const resumed = instantOf(9_990, { lowMs: -51, highMs: -50 });
    expect([stopped, resumed]).toEqual([
      { fromMs: 9996, toMs: 10_000 },
      { fromMs: 10_040, toMs: 10_041 },
    ]);
    expect(downtimeBetween(stopped, resumed)).toEqual({ atLeastMs: 40, atMostMs: 45 });
  });

  test('never below nothing, and not known when an end of it is not', () => {
    expect(downtimeBetween({ fromMs: 0, toMs: 10 }, { fromMs: 5, toMs: 7 })).toEqual({ atLeastMs: 0, atMostMs: 7 });
    expect(downtimeBetween(null, { fromMs: 5, toMs: 7 })).toBeUndefined();
    expect(instantOf(5, undefined)).toBeNull();
  });

  test('is shown of a migration once both agents have told', () => {
    const f = twoHypervisors();
    f.answer = (_host, c) => ({ value: c.do === 'prepare' ? { address: '10.0.0.2', port: 1, portName: 'tap1' } : {} });
    f.pass(1000);
    f.pass(1000);
    const request = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' as const };
    f.send({ kind: 'migrate', request, ids: ['m-1'], group: null });
    f.pass(250);
    const event = (host: string, what: 'preSwitchover' | 'resumed', times: object) =>
      f.send({
        kind: 'agentMessage',
        host,
        message: { type: 'event', migration: 'm-1', event: what, ...times },
        clock: { lowMs: 0, highMs: 2 },
      });
    const shown = () => {
      const job = f.state.jobs.get('m-1');
      return job === undefined ? undefined : migrationView(job).seenDowntime;
    };
    event('hv1', 'preSwitchover', { stoppedAtMs: 1000 });
    expect(shown()).toBeUndefined();
    // The destination may not say when the source stopped.
    event('hv2', 'resumed', { stoppedAtMs: 1, resumedAtMs: 1030 });
    expect(shown()).toEqual({ atLeastMs: 28, atMostMs: 32 });
    expect(f.state.agents.get('hv2')?.dpid).toBe(HV2);
  });
});
