/**
 * Disks of libvirt's guests, as its definitions and `virsh` tell of them: which there are, how large, and how a definition
 * reads where they lie elsewhere. Pure; `io/libvirtGuests.ts` asks, `io/libvirtSource.ts` moves. `core/storage.ts` is about disks
 * of guests that the agent runs itself.
 */
import type { Disk } from '../../contracts/agent.ts';

/** A disk that belongs to its guest alone: one that libvirt copies when it is told to copy the storage. */
export interface LibvirtDisk {
  /** Name in the definition, such as `vda`. */
  readonly target: string;
  /** `file`, `block`, `network`, `volume`, … */
  readonly type: string;
  /** Of a disk that is a file. */
  readonly path?: string;
  readonly format: string;
}

const UNESCAPED: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
const unescapeXml = (text: string): string =>
  text.replace(
    /&(?:(lt|gt|quot|apos|amp)|#(\d+)|#x([0-9a-f]+));/gi,
    (_all, name?: string, dec?: string, hex?: string) =>
      name === undefined
        ? String.fromCodePoint(dec === undefined ? Number.parseInt(hex ?? '', 16) : Number(dec))
        : (UNESCAPED[name] ?? ''),
  );
const escapeXml = (text: string): string =>
  text.replace(/[<>"'&]/g, (c) => `&${Object.entries(UNESCAPED).find(([, plain]) => plain === c)?.[0]};`);

/** Backing files and running mirrors are described inside of a disk, in the same words. */
const EMPTY = /<(?:backingStore|mirror)\b[^>]*\/>/g;
const INNERMOST = /<(backingStore|mirror)\b[^>]*>(?:(?!<\1\b)[\s\S])*?<\/\1>/g;
function withoutNested(disk: string): string {
  let text = disk.replace(EMPTY, '');
  for (let before = ''; before !== text; ) {
    before = text;
    text = text.replace(INNERMOST, '');
  }
  return text;
}
const DISK = /<disk\b[\s\S]*?<\/disk>/g;
const attribute = (text: string, element: string, name: string): string | undefined => {
  const m = new RegExp(`<${element}\\b[^>]*?\\s${name}=(?:'([^']*)'|"([^"]*)")`).exec(text);
  const value = m?.[1] ?? m?.[2];
  return value === undefined ? undefined : unescapeXml(value);
};

/** The disks in a definition, or in pieces of one, that are neither shared nor read-only nor empty. */
export function readDisks(xml: string): LibvirtDisk[] {
  return [...xml.matchAll(DISK)].flatMap(([whole]) => {
    const disk = withoutNested(whole);
    const device = attribute(disk, 'disk', 'device') ?? 'disk';
    const target = attribute(disk, 'target', 'dev');
    const isOwn = !/<(readonly|shareable)\s*\/?>/.test(disk) && /<source\b/.test(disk);
    if (target === undefined || !isOwn || (device !== 'disk' && device !== 'lun')) return [];
    const type = attribute(disk, 'disk', 'type') ?? 'file';
    const path = type === 'file' ? attribute(disk, 'source', 'file') : undefined;
    return [
      { target, type, ...(path === undefined ? {} : { path }), format: attribute(disk, 'driver', 'type') ?? 'raw' },
    ];
  });
}

/** Why a disk cannot be copied to a file of the destination's; undefined when it can. */
export function whyNotCopied(disk: LibvirtDisk): string | undefined {
  const { target, type, path, format } = disk;
  if (path === undefined) {
    return `its disk ${target} is of type ${type}, and only files are mirrored: detach it, or let both hosts share it and mark it <shareable/>`;
  }
  if (format === 'raw' || format === 'qcow2') return undefined;
  return `its disk ${target} has the format ${format}, and only raw and qcow2 are mirrored: convert it with qemu-img`;
}

/** Capacities in bytes by target, from `virsh domblkinfo --all`. */
export function readCapacities(table: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of table.split('\n')) {
    const m = /^\s*(\S+)\s+(\d+)\s+(?:\d+|-)\s+(?:\d+|-)\s*$/.exec(line);
    if (m) found.set(m[1] ?? '', Number(m[2]));
  }
  return found;
}

/** Disks as they are told of a guest: those that are files of a known size, in a format that is known here. */
export function toDisks(disks: readonly LibvirtDisk[], capacities: ReadonlyMap<string, number>): Disk[] {
  return disks.flatMap((d) => {
    const bytes = capacities.get(d.target) ?? 0;
    if (d.path === undefined || whyNotCopied(d) !== undefined || bytes <= 0) return [];
    // A file may end in the middle of a sector, a disk does not.
    return [{ path: d.path, sizeBytes: Math.ceil(bytes / 512) * 512, format: d.format as Disk['format'] }];
  });
}

/**
 * A definition whose disks lie elsewhere. What is copied has no backing files any more, so none are named.
 *
 * @param paths new path by old path
 */
export function moveDisks(xml: string, paths: ReadonlyMap<string, string>): string {
  return xml.replace(DISK, (whole) => {
    const [disk] = readDisks(whole);
    const path = disk?.path === undefined ? undefined : paths.get(disk.path);
    if (path === undefined) return whole;
    return withoutNested(whole).replace(
      /(<source\b[^>]*?\sfile=)('[^']*'|"[^"]*")/,
      (_all, before: string) => `${before}'${escapeXml(path)}'`,
    );
  });
}
