/** Copy options asked for with a migration: refused before anything moves, or handed to both ends as they are. */
import type { Abilities, AgentCommand, AgentHello, CopyOptions } from '../../../contracts/agent.ts';
import { type FairwayError, TECHNIQUES } from '../../../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../../contracts/policy.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { checkRequest } from '../../../controller/core/jobs.ts';
import { migrationView } from '../../../controller/core/views.ts';
import { type Fabric, guest, HV1, HV2, twoHypervisors } from './fabric.ts';

const QEMU: Abilities = {
  hypervisor: 'QEMU 10.0.2',
  techniques: [...TECHNIQUES],
  autoConverge: true,
  xbzrle: true,
  multifd: ['none', 'zlib'],
  multifdPostcopy: false,
  holdsSwitchover: 'stopped',
};
const XBZRLE: CopyOptions = { xbzrle: true, xbzrleCacheMiB: 128 };
const ZLIB: CopyOptions = { multifd: { channels: 2, compression: 'zlib' } };
const ZSTD: CopyOptions = { multifd: { channels: 2, compression: 'zstd' } };

function hello(f: Fabric, host: 'hv1' | 'hv2', abilities?: Partial<Abilities>): void {
  const at: AgentHello = {
    type: 'hello',
    protocol: 'fairway-agent/1',
    host,
    dpid: host === 'hv1' ? HV1 : HV2,
    migrationIp: host === 'hv1' ? '10.0.0.1' : '10.0.0.2',
    migrationPort: 'br0',
    driver: 'qmp',
    techniques: [...TECHNIQUES],
    ...(abilities === undefined ? {} : { abilities: { ...QEMU, ...abilities } }),
    guests: host === 'hv1' ? [guest()] : [],
    migrations: [],
  };
  f.send({ kind: 'agentUp', host, hello: at });
}

/** Two hosts whose agents say what they can do, and obey. */
function fabric(policy?: PolicyDocument, there: Partial<Abilities> = {}): Fabric {
  const f = twoHypervisors(policy === undefined ? {} : { policy });
  hello(f, 'hv1', {});
  hello(f, 'hv2', there);
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6, workingSetBytes: 8e6 } };
    return { value: c.do === 'prepare' ? { address: '10.0.0.2', port: 49152, portName: 'tap1' } : {} };
  };
  f.pass(1000);
  f.pass(1000);
  return f;
}

const asking = (options: CopyOptions, technique?: MigrateRequest['technique']): MigrateRequest => ({
  moves: [{ guest: 'g1', destination: 'hv2' }],
  priority: 'high',
  options,
  ...(technique === undefined ? {} : { technique }),
});

function refusal(f: Fabric, request: MigrateRequest): Pick<FairwayError, 'code' | 'message' | 'labels'> | undefined {
  try {
    checkRequest(f.state, request);
    return undefined;
  } catch (error) {
    return error as FairwayError;
  }
}

function ordered(f: Fabric, request: MigrateRequest): AgentCommand[] {
  expect(refusal(f, request)).toBeUndefined();
  f.send({ kind: 'migrate', request, ids: ['m-1'], group: null });
  f.pass(250);
  return f.commands.map((c) => c.command).filter((c) => c.do === 'prepare' || c.do === 'start');
}

describe('what may be asked for', () => {
  test('both ends are ordered the same, and the record says that it was asked for', () => {
    const f = fabric();
    const [prepare, start] = ordered(f, asking(XBZRLE, 'pre-copy'));
    expect([prepare, start]).toEqual([
      expect.objectContaining({ do: 'prepare', technique: 'pre-copy', options: XBZRLE }),
      expect.objectContaining({ do: 'start', technique: 'pre-copy', options: XBZRLE }),
    ]);
    const job = f.state.jobs.get('m-1');
    if (job === undefined) throw new Error('no job');
    expect(migrationView(job)).toMatchObject({ options: XBZRLE, technique: 'pre-copy' });
    expect(job.reasons).toContainEqual(
      expect.objectContaining({ rule: 'technique.options', inputs: { options: 'xbzrle' } }),
    );
  });

  test('without a technique one is chosen that goes with the options, and it is not to turn into one that does not', () => {
    const [prepare] = ordered(fabric(), asking(ZLIB));
    expect(prepare).toMatchObject({ technique: 'pre-copy', mayTurnPostcopy: false, options: ZLIB });
  });

  test('nothing asked for: nothing said', () => {
    const f = fabric();
    const { options: _, ...plain } = asking(XBZRLE);
    const [prepare] = ordered(f, plain);
    expect(prepare).not.toHaveProperty('options');
  });
});

describe('what is refused, before anything moves', () => {
  test.each<[string, MigrateRequest, string, RegExp, string]>([
    ['post-copy with XBZRLE', asking(XBZRLE, 'post-copy'), 'OPTIONS_CONFLICT', /post-copy has none/, 'badInput'],
    ['multifd with hybrid', asking(ZLIB, 'hybrid'), 'OPTIONS_CONFLICT', /before QEMU 10\.1/, 'badInput'],
    [
      'a compression that one of them lacks',
      asking(ZSTD, 'pre-copy'),
      'OPTIONS_UNSUPPORTED',
      /QEMU 10\.0\.2 on hv1: its multifd compresses with none, zlib only/,
      'conflict',
    ],
  ])('%s', (_what, request, code, text, label) => {
    const f = fabric();
    const found = refusal(f, request);
    expect(found).toMatchObject({ code, labels: [label] });
    expect(found?.message).toMatch(text);
    expect(f.commands).toEqual([]);
  });

  test('what only the destination lacks', () => {
    const found = refusal(fabric(undefined, { xbzrle: false }), asking(XBZRLE, 'pre-copy'));
    expect(found?.message).toBe('g1 to hv2: QEMU 10.0.2 on hv2: it has no XBZRLE');
  });

  test('what the policy does not allow, for everybody or for this guest', () => {
    const less = structuredClone(DEFAULT_POLICY);
    less.technique.allowedOptions = ['zlib'];
    expect(refusal(fabric(less), asking(XBZRLE))).toMatchObject({
      code: 'OPTIONS_NOT_ALLOWED',
      labels: ['conflict'],
      message: expect.stringContaining('does not allow xbzrle for g1'),
    });
    expect(refusal(fabric(less), asking(ZLIB))).toBeUndefined();
    less.overrides.guests.g1 = { technique: { allowedOptions: ['xbzrle'] } };
    expect(refusal(fabric(less), asking(XBZRLE))).toBeUndefined();
    expect(refusal(fabric(less), asking(ZLIB))).toMatchObject({
      code: 'OPTIONS_NOT_ALLOWED',
      message: expect.stringContaining('add it to overrides.guests.g1.technique.allowedOptions or leave it out'),
    });
  });

  test('an agent that does not say what it can do is believed until it refuses', () => {
    const f = fabric();
    hello(f, 'hv2');
    expect(refusal(f, asking(XBZRLE, 'pre-copy'))).toBeUndefined();
    expect(refusal(f, asking({ ...ZLIB, xbzrle: true }))).toMatchObject({ code: 'OPTIONS_CONFLICT' });
  });
});
