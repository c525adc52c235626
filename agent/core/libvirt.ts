/**
 * libvirt's words as `virsh` prints them: events, job statistics, versions, and the command line of a migration. Pure;
 * `io/virsh.ts` runs the program and `io/libvirtDriver.ts` uses both. Tried with libvirt 11.3; the statistics' names are
 * those of libvirt's typed parameters (VIR_DOMAIN_JOB_*), which are part of its stable interface, unlike the tables for people.
 */
import type { Abilities, AgentCommandOf, MultifdCompression } from '../../contracts/agent.ts';
import { TECHNIQUES } from '../../contracts/common.ts';
import { mayBePostcopy } from '../../contracts/copyOrder.ts';
import type { MigrateInfo } from './progress.ts';
import { atLeast, type Version } from './techniques.ts';

/** `name: value` or `name=value` lines, such as `domjobinfo --rawstats` and `domstats --raw` print. */
export function parsePairs(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of text.split('\n')) {
    const m = /^\s*([\w.]+|Job type)\s*[:=]\s*(.*?)\s*$/.exec(line);
    if (m) found[m[1] ?? ''] = m[2] ?? '';
  }
  return found;
}

/** Statistics of a migration as QEMU's own would be; undefined when they tell of no copy. */
export function statsToInfo(stats: Record<string, string>, status: string): MigrateInfo | undefined {
  const number = (name: string): number | undefined => {
    const value = stats[name] === undefined ? Number.NaN : Number(stats[name]);
    return Number.isFinite(value) && value >= 0 ? value : undefined;
  };
  const transferred = number('memory_processed');
  const remaining = number('memory_remaining');
  const total = number('memory_total');
  const elapsedMs = number('time_elapsed');
  const throttle = number('auto_converge_throttle');
  // While the copy runs this is what libvirt expects, not what was.
  const downtimeMs = status === 'completed' ? number('downtime') : undefined;
  const optional = <K extends string>(name: K, value: number | undefined) =>
    value === undefined ? {} : ({ [name]: value } as Record<K, number>);
  if (elapsedMs === undefined && transferred === undefined) return undefined;
  return {
    status,
    ...optional('total-time', elapsedMs),
    ...optional('downtime', downtimeMs),
    ...optional('cpu-throttle-percentage', throttle),
    ...(transferred === undefined || remaining === undefined || total === undefined
      ? {}
      : {
          ram: {
            transferred,
            remaining,
            total,
            mbps: ((number('memory_bps') ?? 0) * 8) / 1e6,
            ...optional('dirty-pages-rate', number('memory_dirty_rate')),
            ...optional('page-size', number('memory_page_size')),
            ...optional('dirty-sync-count', number('memory_iteration')),
          },
        }),
  };
}

/** What is asked of a definition (`virsh dumpxml --xpath`): each as a line, disks as several. */
export const DEFINITION = '/domain/@type|/domain/memory|/domain/vcpu|/domain/os/type/@machine|/domain/devices/disk';

/** What a guest is, from its definition and from the table of its network cards (`virsh domiflist`), of which the first counts. */
export function readDefinition(definition: string, cards: string) {
  const number = (element: string) =>
    Number(new RegExp(`<${element}\\b[^>]*>\\s*(\\d+)`).exec(definition)?.[1] ?? Number.NaN);
  // Columns: interface, type, source, model, MAC. A machine that does not run yet has no interface: "-".
  const card = cards
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find((columns) => /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(columns[4] ?? ''));
  return {
    mac: card?.[4],
    memoryMiB: Math.round(number('memory') / 1024),
    vcpus: number('vcpu'),
    machine: /\bmachine="([^"]*)"/.exec(definition)?.[1],
    accel: /\btype="kvm"/.test(definition) ? 'kvm' : 'tcg',
    portName: card === undefined || card[0] === '-' ? '' : (card[0] ?? ''),
  };
}

export type LibvirtEvent =
  /** E.g. `Suspended`, `Migrated`. */
  | { event: 'lifecycle'; domain: string; what: string; why: string }
  | { event: 'migration-iteration'; domain: string; iteration: number };

/**
 * Reads what `virsh event --loop --all --timestamp` prints. Statistics of a completed job follow their event line by line
 * and have no end; what has come of them is kept by domain until it is taken.
 */
export function createEventReader(): {
  push(piece: string): LibvirtEvent[];
  takeCompleted(domain: string): Record<string, string> | undefined;
} {
  let rest = '';
  let block: string | undefined;
  const completed = new Map<string, string>();
  return {
    push(piece) {
      const lines = (rest + piece).split('\n');
      rest = lines.pop() ?? '';
      const events: LibvirtEvent[] = [];
      for (const line of lines) {
        const m = /event '([\w-]+)' for domain '([^']*)':\s*(.*)$/.exec(line);
        if (m === null) {
          if (block !== undefined) completed.set(block, `${completed.get(block) ?? ''}${line}\n`);
          continue;
        }
        const [, event, domain = '', detail = ''] = m;
        block = event === 'job-completed' ? domain : undefined;
        if (block !== undefined) completed.set(block, '');
        if (event === 'lifecycle') {
          const [what = '', ...why] = detail.trim().split(' ');
          events.push({ event, domain, what, why: why.join(' ') });
        } else if (event === 'migration-iteration') {
          const iteration = Number(/'(\d+)'/.exec(detail)?.[1] ?? Number.NaN);
          if (Number.isInteger(iteration)) events.push({ event, domain, iteration });
        }
      }
      return events;
    },
    takeCompleted(domain) {
      const text = completed.get(domain);
      completed.delete(domain);
      return text === undefined ? undefined : parsePairs(text);
    },
  };
}

/** Version from `Using library: libvirt 11.3.0` and the like. */
function versionIn(text: string, label: string): Version | undefined {
  const m = new RegExp(`${label}:[^\\d\\n]*(\\d+)\\.(\\d+)\\.(\\d+)`).exec(text);
  return m ? [Number(m[1]), Number(m[2]), Number(m[3])] : undefined;
}

/**
 * What a libvirt can do, from `virsh version --daemon` and `virsh help migrate`: the program and its library know an option
 * only if both have it. Compression by several connections came with libvirt 9.4.
 */
export function libvirtAbilities(version: string, help: string, monitorCommands: boolean): Abilities {
  const daemon = versionIn(version, 'Running against daemon') ?? versionIn(version, 'Using library') ?? [0, 0, 0];
  const qemu = versionIn(version, 'Running hypervisor') ?? [0, 0, 0];
  const has = (option: string): boolean => new RegExp(`--${option}\\b`).test(help);
  const compressions: MultifdCompression[] = !has('parallel') ? [] : ['none'];
  if (has('parallel') && has('comp-zlib-level')) compressions.push('zlib');
  if (has('parallel') && has('comp-zstd-level')) compressions.push('zstd');
  const whyNoMirror = !monitorCommands
    ? 'virsh cannot pace the copy of a disk while a guest is moved: set libvirt.monitorCommands, or share the disks'
    : 'its virsh has no --copy-storage-all with --disks-port: install libvirt 1.2.17 or later, or share the disks';
  const mirrors = monitorCommands && has('copy-storage-all') && has('disks-port');
  return {
    hypervisor: `libvirt ${daemon.join('.')}, QEMU ${qemu.join('.')}`,
    techniques: TECHNIQUES.filter((t) => has('postcopy') || (t !== 'post-copy' && t !== 'hybrid')),
    autoConverge: has('auto-converge'),
    xbzrle: has('comp-xbzrle-cache'),
    multifd: compressions,
    multifdPostcopy: has('parallel') && atLeast(qemu, 10, 1) && atLeast(daemon, 11, 6),
    holdsSwitchover: 'held',
    // Shared is what `virsh migrate` does unless it is told otherwise; libvirt refuses disks that it does not think safe to share.
    storage: mirrors ? ['shared', 'mirrored'] : ['shared'],
    storageRefusals: {
      ...(mirrors ? {} : { mirrored: whyNoMirror }),
      'on-demand':
        'libvirt ends the machine at the source as soon as its guest has left, and nobody would be there to read its disks from: mirror or share them',
    },
  };
}

const MIB = 1024 * 1024;
/** libvirt's speeds are whole MiB/s, and 0 means "no limit": rounded down, so that a slice is never exceeded. */
export const wholeMibPerS = (bps: number): number => Math.max(1, Math.floor(bps / 8 / MIB));

export interface MigrateOptions {
  /** The source's daemon speaks to the destination's (`p2p`), or `virsh` speaks to both (`direct`). */
  mode: 'p2p' | 'direct';
  /** The guest's definition is kept on disk, not only while it runs: it moves along. */
  persistent: boolean;
  /** `virsh` knows `--available-switchover-bandwidth`. */
  switchoverBandwidth: boolean;
  /** The copy is not to switch over until it is told what the path carries then. */
  held: boolean;
  /** Memory and disks go over TLS, with the certificates that libvirt is configured with. */
  tls: boolean;
  /** Storage mirrored: how many disks there are, and files with the definition that the destination is to have. */
  mirrored?: { disks: number; xml: string; persistentXml?: string };
}

/**
 * Arguments of `virsh` for a copy. Without `--live` libvirt stops the guest itself, and starts it again here if the copy does
 * not come about: stop-and-copy. The definition moves with a persistent guest and stays as it was; a transient one leaves none.
 */
export function migrateArguments(c: AgentCommandOf<'start'>, peer: string, o: MigrateOptions): string[] {
  const host = c.address.includes(':') ? `[${c.address}]` : c.address;
  const { autoConverge, xbzrle, xbzrleCacheMiB, multifd } = c.options ?? {};
  const switchover = o.held ? '1' : String(wholeMibPerS(c.switchoverBps ?? c.bandwidthBps));
  const { mirrored } = o;
  // Each mirror gets what is said here until it is told otherwise, and so does memory.
  const bandwidth = wholeMibPerS(c.bandwidthBps / Math.max(1, mirrored?.disks ?? 1));
  const methods = [
    ...(xbzrle === true ? ['xbzrle'] : []),
    ...(multifd !== undefined && multifd.compression !== 'none' ? [multifd.compression] : []),
  ];
  return [
    'migrate',
    ...['--domain', c.guest, '--desturi', peer],
    ...['--migrateuri', `tcp://${host}:${c.port}`, '--listen-address', c.address],
    ...(c.technique === 'stop-and-copy' ? [] : ['--live']),
    ...(o.mode === 'p2p' ? ['--p2p'] : []),
    ...(o.persistent ? ['--persistent', '--undefinesource'] : []),
    ...['--bandwidth', String(bandwidth)],
    ...(o.switchoverBandwidth ? ['--available-switchover-bandwidth', switchover] : []),
    ...(mayBePostcopy(c) ? ['--postcopy', '--postcopy-bandwidth', String(wholeMibPerS(c.bandwidthBps))] : []),
    ...(autoConverge === true ? ['--auto-converge'] : []),
    ...(methods.length > 0 ? ['--compressed', '--comp-methods', methods.join(',')] : []),
    ...(xbzrle === true && xbzrleCacheMiB !== undefined ? ['--comp-xbzrle-cache', String(xbzrleCacheMiB * MIB)] : []),
    ...(multifd !== undefined ? ['--parallel', '--parallel-connections', String(multifd.channels)] : []),
    ...(o.tls ? ['--tls'] : []),
    ...(mirrored === undefined
      ? []
      : ['--copy-storage-all', '--disks-port', String(c.diskPort), '--xml', mirrored.xml]),
    ...(mirrored?.persistentXml === undefined ? [] : ['--persistent-xml', mirrored.persistentXml]),
  ];
}

/** What a person can do about a copy that libvirt refused or that broke, beside what libvirt said. */
export function libvirtReason(said: string): string {
  if (/\b(TLS|x509|certificates?|credentials)\b/i.test(said)) {
    const cure =
      'copies over TLS need ca-cert.pem, and certificates and keys made for the migrationIp of each host, in the folder that migrate_tls_x509_cert_dir of both libvirts names';
    return `${said}; ${cure}`;
  }
  return said;
}

/**
 * Why a connection URI is not taken from a controller: some name programs that the source's daemon would run
 * (`qemu+ext`, `command=`, `netcat=`), or files of its choice. undefined when it is a plain one.
 */
export function whyBadPeer(peer: string): string | undefined {
  const m = /^qemu\+(tls|tcp|ssh|libssh|libssh2|unix):\/\/([A-Za-z0-9_.@:[\]-]*)\/system(?:\?([^#\s]*))?$/.exec(peer);
  if (m === null) return `peer: ${peer} is not a URI such as qemu+tls://host/system`;
  const [, transport, , query = ''] = m;
  for (const pair of query.split('&').filter((p) => p !== '')) {
    const [name = '', value = ''] = pair.split('=');
    const plain = name === 'socket' && transport === 'unix' && /^\/[\w./-]+$/.test(value);
    if (!plain && name !== 'no_tty') return `peer: ${peer} may not set ${name}`;
  }
  return undefined;
}
