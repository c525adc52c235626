/**
 * What is kept beside a migration's state (`jobBook.ts`) of a guest of libvirt's: the detached `virsh` that copies it writes what
 * it says and how it ended to files, which a restarted agent reads; so are the definition that the destination is to have,
 * and the disks that were made or that are to be put aside.
 */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomically } from './guestProcess.ts';

const KINDS = ['out', 'status', 'disks', 'xml', 'persistent.xml'] as const;
type Kind = (typeof KINDS)[number];

export interface LibvirtJobs {
  path(id: string, kind: Kind): string;
  write(id: string, kind: Kind, text: string): void;
  /** A `virsh` was started for this copy. */
  hasBegun(id: string): boolean;
  /** Its exit status; undefined while it runs. */
  status(id: string): number | undefined;
  /** What it said, in libvirt's words. */
  said(id: string): string;
  /** The end of one `virsh` is forgotten: another is started. */
  clear(id: string): void;
  /** Paths of disks: at the destination those made for the guest, at the source those that have been copied. */
  disks(id: string): string[];
  forget(id: string): void;
}

/** @param runDir the agent's */
export function createLibvirtJobs(runDir: string): LibvirtJobs {
  const path = (id: string, kind: Kind): string => join(runDir, 'migrations', `${id}.${kind}`);
  const remove = (id: string, kinds: readonly Kind[]): void => {
    for (const kind of kinds) rmSync(path(id, kind), { force: true });
  };
  return {
    path,
    write: (id, kind, text) => writeAtomically(path(id, kind), text),
    hasBegun: (id) => existsSync(path(id, 'out')),
    status(id) {
      const file = path(id, 'status');
      return existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined;
    },
    said: (id) =>
      readFileSync(path(id, 'out'), 'utf8')
        .trim()
        .replace(/^error: /gm, ''),
    clear: (id) => remove(id, ['out', 'status']),
    disks(id) {
      const file = path(id, 'disks');
      if (!existsSync(file)) return [];
      return readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
    },
    forget: (id) => remove(id, KINDS),
  };
}
