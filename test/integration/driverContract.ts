/**
 * What every migration driver keeps to (`agent/core/driver.ts`), as tests that are run on each: emulated, QEMU by QMP,
 * libvirt. A rig is two hosts with a driver each and one guest that counts; the guest goes to and fro between them, and at
 * the end its counting must be unbroken: nothing lost, nothing counted twice, which two running copies would do.
 */
import type { DriverReport, EventMessage, MigrationDriver } from '../../agent/core/driver.ts';
import { COPY_METHODS, type CopyMethod } from '../../agent/core/techniques.ts';
import type { AgentCommandOf, CopyProgress, GuestSpec } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import { mayBePostcopy } from '../../contracts/copyOrder.ts';

export const HOSTS = ['h1', 'h2'] as const;
export type HostName = (typeof HOSTS)[number];

export interface Rig {
  /** Both open; the guest runs on h1. */
  readonly drivers: Readonly<Record<HostName, MigrationDriver>>;
  /** What each driver has reported so far. */
  readonly reports: Readonly<Record<HostName, readonly DriverReport[]>>;
  readonly spec: GuestSpec;
  /** All that the guest has written on its console while it ran on a host: a line `fw-count <n>` for each count. */
  console(host: HostName): string;
  /** Both hosts write to the same console, as on a shared disk. */
  readonly sharedConsole?: boolean;
  /** Lets time pass. */
  pause(ms: number): Promise<void>;
  /** Ends a host's driver as the agent's end would, and starts another in its place; guests and copies go on. */
  restart(host: HostName): Promise<void>;
  /** Kills the machine that waits for a copy, where there is one to kill. */
  killMachine?(host: HostName): Promise<void>;
  close(): Promise<void>;
}

export interface RigOptions {
  make(): Promise<Rig>;
  /** Why the rig cannot be made on this machine. */
  skipped?: string;
  /** Guests run in machines, which can be killed. Default true. */
  hasMachines?: boolean;
}

/** Collects the reports of two drivers, for rigs. */
export function collectReports(): {
  reports: Record<HostName, DriverReport[]>;
  to: (host: HostName) => (report: DriverReport) => void;
} {
  const reports: Record<HostName, DriverReport[]> = { h1: [], h2: [] };
  return { reports, to: (host) => (report) => void reports[host].push(report) };
}

/** Enough that a copy of some 25 MB has a middle, and that nobody waits long for its end. */
const SLOW_BPS = 24e6;
const FAST_BPS = 1.6e9;
/** A hybrid's: less than what guests of rigs with machines dirty, so that no pass converges before the order to go on as post-copy. */
const HYBRID_BPS = 80e6;
const OTHER: Record<HostName, HostName> = { h1: 'h2', h2: 'h1' };
let lastMigration = 0;

/** Registers the contract's tests in the current `describe`. */
export function driverContract({ make, skipped, hasMachines = true }: RigOptions): void {
  const real = skipped === undefined ? test : test.skip;
  const named = (name: string) => (skipped === undefined ? name : `skipped, because ${skipped}: ${name}`);
  let rig: Rig;
  beforeAll(async () => {
    if (skipped === undefined) rig = await make();
  });
  afterAll(async () => rig?.close());

  const statesOn = (host: HostName) => rig.drivers[host].guests().map((g) => g.state);
  const home = (): HostName => (statesOn('h1').length > 0 ? 'h1' : 'h2');
  async function until<T>(what: () => T | undefined | false): Promise<T> {
    for (;;) {
      const found = what();
      if (found !== undefined && found !== false) return found;
      await rig.pause(20);
    }
  }
  /** What the guest has written where it was before, and how much of each console that is. A move may split a line. */
  let story = '';
  const told: Record<HostName, number> = { h1: 0, h2: 0 };
  function leaves(host: HostName): void {
    if (rig.sharedConsole === true) return;
    story += rig.console(host).slice(told[host]);
    told[host] = rig.console(host).length;
  }
  function counts(host: HostName): number[] {
    // The last line may be half written.
    const lines = (story + rig.console(host).slice(told[host])).split('\n').slice(0, -1);
    return lines.flatMap((line) => /fw-count (\d+)\r?$/.exec(line)?.[1] ?? []).map(Number);
  }
  /** The guest counts on, on that host and nowhere else, from where it was. */
  async function countsOn(host: HostName): Promise<void> {
    const from = counts(host).length;
    // One reading: it counts on while it is read.
    const all = await until(() => {
      const now = counts(host);
      return now.length >= from + 3 && now;
    });
    expect(all).toEqual(all.map((_, i) => i + 1));
    const other = OTHER[host];
    if (rig.sharedConsole !== true) expect(rig.console(other).slice(told[other])).toBe('');
  }

  interface Copy {
    id: string;
    from: HostName;
    to: HostName;
    event(host: HostName, name: EventMessage['event']): Promise<EventMessage>;
    events(host: HostName): EventMessage['event'][];
    progress(fits: (p: CopyProgress) => boolean): Promise<CopyProgress>;
    readonly source: MigrationDriver;
    readonly destination: MigrationDriver;
  }
  type StartOptions = Partial<Omit<AgentCommandOf<'start'>, 'do'>>;
  async function begin(method: CopyMethod, over: StartOptions = {}): Promise<Copy> {
    const from = home();
    const to = OTHER[from];
    const id = `${rig.drivers.h1.kind}-${++lastMigration}`;
    const [source, destination] = [rig.drivers[from], rig.drivers[to]];
    const common = {
      migration: id,
      technique: method.technique,
      options: method.options,
      mayTurnPostcopy: over.mayTurnPostcopy === true,
    };
    const { address, port, peer } = await destination.prepare({ do: 'prepare', guest: rig.spec, ...common });
    await source.start({
      do: 'start',
      guest: rig.spec.name,
      address,
      port,
      ...(peer === undefined ? {} : { peer }),
      bandwidthBps: FAST_BPS,
      downtimeLimitMs: 300,
      hybridPasses: 1,
      pauseBeforeSwitchover: false,
      ...common,
      ...over,
    });
    const eventsOf = (host: HostName) =>
      rig.reports[host].filter((m): m is EventMessage => m.type === 'event' && m.migration === id);
    const ended = () => eventsOf(from).find((m) => m.event === 'failed');
    return {
      id,
      from,
      to,
      // Another one after a restart.
      get source() {
        return rig.drivers[from];
      },
      get destination() {
        return rig.drivers[to];
      },
      event: (host, name) =>
        until(() => {
          const failed = ended();
          if (failed !== undefined && name !== 'failed') throw new Error(`the copy failed: ${failed.reason}`);
          return eventsOf(host).find((m) => m.event === name);
        }),
      events: (host) => eventsOf(host).map((m) => m.event),
      progress: (fits) =>
        until(() => {
          const failed = ended();
          if (failed !== undefined) throw new Error(`the copy failed: ${failed.reason}`);
          return rig.reports[from].flatMap((m) =>
            m.type === 'progress' && m.migration === id && fits(m.progress) ? [m.progress] : [],
          )[0];
        }),
    };
  }
  async function arrives(copy: Copy, technique: CopyMethod['technique']): Promise<CopyProgress> {
    await copy.event(copy.to, 'resumed');
    const { progress } = await copy.event(copy.from, 'completed');
    const post = technique === 'post-copy' || technique === 'hybrid';
    expect(copy.events(copy.from).filter((e) => e !== 'stream')).toEqual([
      ...(copy.events(copy.from).includes('preSwitchover') ? ['preSwitchover'] : []),
      ...(post ? ['postcopyStarted'] : []),
      'completed',
    ]);
    expect(copy.events(copy.from)).toContain('stream');
    expect(copy.events(copy.to)).toEqual(['resumed']);
    expect(progress).toMatchObject({ phase: 'completed', remainingBytes: 0 });
    leaves(copy.from);
    await copy.source.finish(copy.id);
    await copy.destination.finish(copy.id);
    // Both are forgotten, so that a repeated order changes nothing.
    await copy.source.finish(copy.id);
    expect([statesOn(copy.from), statesOn(copy.to)]).toEqual([[], ['running']]);
    await countsOn(copy.to);
    return progress as CopyProgress;
  }
  async function staysHome(copy: Copy): Promise<void> {
    await copy.event(copy.from, 'cancelled');
    await copy.destination.abandon(copy.id);
    await copy.destination.abandon(copy.id);
    await copy.source.finish(copy.id);
    await until(() => statesOn(copy.from)[0] === 'running');
    expect(statesOn(copy.to)).toEqual([]);
    expect(copy.events(copy.to)).toEqual([]);
    await countsOn(copy.from);
  }
  const codeOf = async (work: Promise<unknown>) =>
    work.then(
      () => 'done',
      (error: unknown) => (error instanceof FairwayError ? error.code : String(error)),
    );
  const stands = (): boolean => rig.drivers.h1.abilities().holdsSwitchover === 'stopped';
  const can = (method: CopyMethod): boolean => {
    const { abilities } = rig.drivers.h1;
    const { multifd } = method.options;
    return multifd === undefined || abilities().multifd.includes(multifd.compression);
  };

  describe.each(COPY_METHODS.map((m) => [m.name, m] as const))('%s', (_name, method) => {
    const { technique } = method;
    /** A hybrid that converged in its pre-copy passes would never go to post-copy. */
    const fastBps = technique === 'hybrid' ? HYBRID_BPS : FAST_BPS;
    const steady: StartOptions = { bandwidthBps: fastBps, ...(technique === 'hybrid' ? { downtimeLimitMs: 1 } : {}) };
    const postOnly = technique === 'post-copy';
    /** So slow that the other pace can be told from it, also when that of compression is the processor's. */
    const slowBps = technique === 'hybrid' || method.options.multifd ? SLOW_BPS / 2 : SLOW_BPS;

    real(named('completes: held before the switch-over, then let go, and the guest counts on'), async () => {
      if (!can(method)) return expect(await codeOf(begin(method))).toBe('technique-unsupported');
      const pause = rig.drivers.h1.abilities().holdsSwitchover !== 'none';
      // Where a guest is held while it runs, a fast copy could be over before it is told to go on as post-copy.
      const isSlow = postOnly && pause && !stands();
      const over = isSlow ? { ...steady, bandwidthBps: SLOW_BPS } : steady;
      const copy = await begin(method, { ...over, pauseBeforeSwitchover: pause });
      if (pause) {
        await copy.event(copy.from, 'preSwitchover');
        if (stands()) expect(statesOn(copy.to)).toEqual(['incoming']);
        await copy.source.continueSwitchover(copy.id);
      }
      if (isSlow) {
        await copy.event(copy.from, 'postcopyStarted');
        await copy.source.setBandwidth({ do: 'setBandwidth', migration: copy.id, bandwidthBps: fastBps });
      }
      const progress = await arrives(copy, technique);
      expect(progress.transferredBytes).toBeGreaterThan(1e6);
      expect(progress.passes).toBeGreaterThan(0);
    });

    real(named('is cancelled, and the guest counts on where it was'), async () => {
      if (!can(method)) return expect(await codeOf(begin(method))).toBe('technique-unsupported');
      // Post-copy has no middle that can be cancelled: the guest is about to leave, or has left.
      const copy = await begin(method, { ...steady, bandwidthBps: SLOW_BPS, pauseBeforeSwitchover: postOnly });
      if (postOnly) await copy.event(copy.from, 'preSwitchover');
      else await copy.progress((p) => p.transferredBytes > 500e3);
      await copy.source.cancel(copy.id);
      await staysHome(copy);
    });

    real(named('goes on at another pace when told so'), async () => {
      if (!can(method)) return expect(await codeOf(begin(method))).toBe('technique-unsupported');
      const copy = await begin(method, { ...steady, bandwidthBps: slowBps });
      if (postOnly) await copy.event(copy.from, 'postcopyStarted');
      const slow = await copy.progress((p) => p.transferredBytes > 1e6);
      expect(slow.remainingBytes).toBeGreaterThan(0);
      if (postOnly) expect(await codeOf(copy.source.cancel(copy.id))).toBe('wrong-phase');
      await copy.source.setDowntimeLimit({
        do: 'setDowntimeLimit',
        migration: copy.id,
        downtimeLimitMs: technique === 'hybrid' ? 1 : 200,
      });
      await copy.source.setBandwidth({ do: 'setBandwidth', migration: copy.id, bandwidthBps: fastBps });
      const whole = await arrives(copy, technique);
      // The rest was faster than the beginning. Pages that a guest waits for in post-copy are not paced at all.
      const restBps = ((whole.transferredBytes - slow.transferredBytes) * 8000) / (whole.elapsedMs - slow.elapsedMs);
      if (!postOnly) expect(restBps).toBeGreaterThan(2 * slowBps);
    });
  });

  describe('beside the techniques', () => {
    const method = (technique: CopyMethod['technique'], options: CopyMethod['options'] = {}): CopyMethod => ({
      name: technique,
      technique,
      options,
    });

    real(named('what contradicts itself is refused at both ends, and nothing was moved or made'), async () => {
      const at = home();
      const multifd = { channels: 2, compression: 'zlib' as const };
      const common = { migration: 'refused', technique: 'post-copy' as const, options: { multifd } };
      expect(mayBePostcopy(common)).toBe(true);
      const prepare = rig.drivers[OTHER[at]].prepare({ do: 'prepare', guest: rig.spec, ...common });
      expect(await codeOf(prepare)).toBe('technique-conflict');
      const start = {
        ...{ do: 'start' as const, guest: rig.spec.name, address: '127.0.0.1', port: 9, bandwidthBps: 1e6 },
        ...{ downtimeLimitMs: 300, hybridPasses: 1, pauseBeforeSwitchover: false },
      };
      expect(await codeOf(rig.drivers[at].start({ ...start, ...common }))).toBe('technique-conflict');
      const unknown = { ...start, migration: 'refused', technique: 'pre-copy' as const, guest: 'nobody' };
      expect(await codeOf(rig.drivers[at].start(unknown))).toBe('guest-not-running');
      expect(rig.drivers[at].migrations()).toEqual([]);
      expect([statesOn(at), statesOn(OTHER[at])]).toEqual([['running'], []]);
      await countsOn(at);
    });

    real(named('a pre-copy that may turn goes on as post-copy when told so'), async () => {
      const copy = await begin(method('pre-copy'), { mayTurnPostcopy: true, bandwidthBps: SLOW_BPS });
      await copy.progress((p) => p.phase === 'pre-copy' && p.transferredBytes > 500e3);
      await copy.source.switchToPostcopy(copy.id);
      await copy.event(copy.from, 'postcopyStarted');
      await copy.source.setBandwidth({ do: 'setBandwidth', migration: copy.id, bandwidthBps: FAST_BPS });
      await arrives(copy, 'hybrid');
    });

    real(named('one that may not is not turned, nor begun twice, and can be cancelled while it is held'), async () => {
      // Where a guest is held while it runs, it may slip through: it is cancelled before.
      const pace = stands() ? FAST_BPS : SLOW_BPS;
      const copy = await begin(method('pre-copy'), { pauseBeforeSwitchover: stands(), bandwidthBps: pace });
      expect(await codeOf(copy.source.switchToPostcopy(copy.id))).toBe('wrong-phase');
      await until(() => statesOn(copy.to)[0] === 'incoming');
      const second = { migration: 'second', technique: 'pre-copy' as const, options: {} };
      const prepare = copy.destination.prepare({ do: 'prepare', guest: rig.spec, ...second });
      expect(await codeOf(prepare)).toBe('guest-exists');
      const order = {
        ...{ do: 'start' as const, guest: rig.spec.name, address: '127.0.0.1', port: 9, bandwidthBps: 1e6 },
        ...{ downtimeLimitMs: 300, hybridPasses: 1, pauseBeforeSwitchover: false, ...second },
      };
      expect(await codeOf(copy.source.start(order))).toBe('guest-busy');
      if (stands()) await copy.event(copy.from, 'preSwitchover');
      await copy.source.cancel(copy.id);
      await staysHome(copy);
    });

    real(named('a copy goes on while both agents are restarted, and they find it'), async () => {
      const copy = await begin(method('pre-copy'), { bandwidthBps: SLOW_BPS });
      await copy.progress((p) => p.transferredBytes > 500e3);
      await copy.event(copy.from, 'stream');
      for (const host of HOSTS) await rig.restart(host);
      expect(copy.source.migrations()).toMatchObject([{ migration: copy.id, guest: rig.spec.name, role: 'source' }]);
      expect(copy.destination.migrations()).toMatchObject([{ migration: copy.id, role: 'destination' }]);
      expect(copy.source.pastEvents().map((e) => e.event)).toEqual(['stream']);
      expect([statesOn(copy.from), statesOn(copy.to)]).toEqual([['running'], ['incoming']]);
      await copy.source.setBandwidth({ do: 'setBandwidth', migration: copy.id, bandwidthBps: FAST_BPS });
      await arrives(copy, 'pre-copy');
    });

    const withMachines = hasMachines ? real : undefined;
    withMachines?.(named('a guest whose destination dies goes on where it is'), async () => {
      if (rig.killMachine === undefined) throw new Error('the rig cannot kill its machines');
      for (const technique of ['pre-copy', 'stop-and-copy'] as const) {
        const copy = await begin(method(technique), { bandwidthBps: SLOW_BPS });
        await copy.progress((p) => p.transferredBytes > 500e3);
        await rig.killMachine(copy.to);
        expect((await copy.event(copy.from, 'failed')).reason).toMatch(/\w/);
        await copy.destination.abandon(copy.id);
        await copy.source.finish(copy.id);
        await until(() => statesOn(copy.from)[0] === 'running');
        expect(statesOn(copy.to)).toEqual([]);
        expect(copy.events(copy.to)).toEqual([]);
        await countsOn(copy.from);
      }
    });

    real(named('a hybrid goes on as post-copy when a pass does not pay'), async () => {
      // Nothing pays so well that it leaves nothing: the first comparison decides, long before the ninth pass.
      const copy = await begin(method('hybrid'), {
        ...{ downtimeLimitMs: 1, hybridPasses: 9, hybridMinGain: 1, bandwidthBps: HYBRID_BPS },
      });
      await arrives(copy, 'hybrid');
    });
  });
}
