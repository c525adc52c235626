/**
 * The policy kept in a YAML file that people edit. The file is looked at several times a second; an edit that is not
 * valid leaves the last good document in force and its reason in `<file>.status` (JSON), which also keeps that last
 * good document, so that a restart during a broken edit does not fall back to the defaults. See `store.ts`.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Document, isMap, parseDocument, stringify } from 'yaml';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyStatus } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  fieldOf,
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
  refusalText,
  WorkQueue,
} from './store.ts';

const MAX_BYTES = 1024 * 1024;
const MAX_ATTEMPTS = 4;

const header = (file: string): string =>
  `# Fairway's policy: every number and rule its decisions obey. Edits take effect while migrations run, within a second.
# An edit that is not valid changes nothing; why is then in ${file}.status
# Rates are "100 Mbit/s" or bit/s, limits may also be shares ("50 %"), times are ms, shares are 0-1.
`;

type Signature = string;
const GONE: Signature = 'gone';

export class FilePolicyStore implements PolicyStore {
  readonly kind = 'file';
  readonly #file: string;
  readonly #codec: PolicyCodec;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #pollMs: number;
  readonly #inForce: PolicyInForce;
  readonly #queue = new WorkQueue();
  #isReadable = true;
  #loaded: Signature = GONE;
  #candidate: Signature | undefined;
  #stopPolling: (() => void) | undefined;

  /** `pollMs`: how often the file is looked at; an edit is taken at the second look that finds it unchanged. */
  constructor(o: { file: string; codec: PolicyCodec; clock: Clock; log: Log; pollMs?: number }) {
    this.#file = o.file;
    this.#codec = o.codec;
    this.#clock = o.clock;
    this.#log = o.log;
    this.#pollMs = o.pollMs ?? 200;
    this.#inForce = new PolicyInForce(o.clock, o.log);
  }

  /** False while the file cannot be read. */
  get connected(): boolean {
    return this.#isReadable;
  }

  /** Throws FairwayError `POLICY_FILE` when there is no file and none can be made. */
  async start(
    onChange: OnPolicyChange,
    onRefused: OnPolicyRefused,
  ): Promise<{ doc: PolicyDocument; status: PolicyStatus }> {
    await this.#queue.run(async () => {
      const before = await this.#readStatus();
      if (before) this.#inForce.restore(before.doc ?? DEFAULT_POLICY, before.revision);
      if ((await this.#signature()) === GONE) {
        await this.#write(this.#file, header(this.#file) + stringify(DEFAULT_POLICY));
      }
      await this.#load(true);
    });
    this.#inForce.watch(onChange, onRefused);
    this.#stopPolling = this.#clock.every(this.#pollMs, () => {
      if (this.#queue.length > 0) return;
      this.#queue
        .run(() => this.#poll())
        .catch((e: Error) => {
          if (this.#isReadable) this.#log('error', 'policy.file-trouble', { file: this.#file, error: e.message });
          this.#isReadable = false;
        });
    });
    return { doc: this.#inForce.doc, status: this.#inForce.status };
  }

  patch(fields: PolicyPatch): Promise<PolicyStatus> {
    return this.#queue.run(async () => {
      for (let attempt = 1; ; attempt++) {
        const signature = await this.#signature();
        const text = signature === GONE ? header(this.#file) + stringify(this.#inForce.doc) : await this.#readText();
        let yaml: Document.Parsed;
        let result: PolicyDocument;
        try {
          yaml = readYaml(text);
          // On top of the file, so that an edit just made by hand is kept; of the document in force where that is broken.
          const kept = this.#tryParse(yaml);
          const base = kept ?? this.#inForce.doc;
          const next = this.#patched(base, fields);
          const paths = new Set([...changedPaths(base, next), ...(kept ? [] : Object.keys(fields))]);
          for (const path of paths) setPath(yaml, path.split('.'), next);
          result = this.#parse(readYaml(yaml.toString()));
        } catch (e) {
          if (e instanceof PatchRefused) throw e.cause;
          throw this.#conflict(refusalText(e));
        }
        if ((await this.#signature()) !== signature) {
          if (attempt < MAX_ATTEMPTS) continue;
          throw this.#conflict('it changes all the time');
        }
        await this.#write(this.#file, yaml.toString());
        this.#loaded = await this.#signature();
        this.#candidate = undefined;
        this.#inForce.accept(result);
        await this.#writeStatus();
        return this.#inForce.status;
      }
    });
  }

  async close(): Promise<void> {
    this.#stopPolling?.();
    await this.#queue.idle();
  }

  #conflict(why: string): FairwayError {
    return new FairwayError(
      'POLICY_CONFLICT',
      `the policy file ${this.#file} holds an edit that was refused (${why}); correct or undo it first`,
      ['conflict'],
    );
  }

  /** What a mistake in the patch itself says must not be taken for a mistake in the file. */
  #patched(base: PolicyDocument, fields: PolicyPatch): PolicyDocument {
    try {
      return this.#codec.patch(base, fields);
    } catch (e) {
      throw new PatchRefused('the patch is not valid', { cause: e });
    }
  }

  #parse(yaml: Document.Parsed): PolicyDocument {
    let value: unknown;
    try {
      value = yaml.toJS();
    } catch (e) {
      throw invalid(`(document): ${(e as Error).message}`);
    }
    return this.#codec.parse(value);
  }

  #tryParse(yaml: Document.Parsed): PolicyDocument | undefined {
    try {
      return this.#parse(yaml);
    } catch (e) {
      refusalText(e);
      return undefined;
    }
  }

  async #poll(): Promise<void> {
    const now = await this.#signature();
    if (now === this.#loaded && this.#isReadable) {
      this.#candidate = undefined;
      return;
    }
    // An editor may be half way through writing: only what two looks find the same is read.
    if (now !== this.#candidate) {
      this.#candidate = now;
      return;
    }
    await this.#load(false);
  }

  async #load(isStart: boolean): Promise<void> {
    const signature = await this.#signature();
    let refusal: string | undefined;
    try {
      if (signature === GONE) throw invalid(`(document): ${this.#file} is gone`);
      this.#inForce.accept(this.#parse(readYaml(await this.#readText())));
    } catch (e) {
      refusal = refusalText(e);
    }
    if (refusal !== undefined) {
      this.#inForce.refuse(refusal);
      this.#log('warn', 'policy.refused', { file: this.#file, reason: refusal });
    } else {
      this.#log('info', 'policy.accepted', { file: this.#file, revision: this.#inForce.status.revision, isStart });
    }
    this.#isReadable = true;
    this.#loaded = signature;
    this.#candidate = undefined;
    await this.#writeStatus();
  }

  async #readText(): Promise<string> {
    const h = await open(this.#file, constants.O_RDONLY);
    try {
      const { size } = await h.stat();
      if (size > MAX_BYTES) throw invalid(`(document): ${size} bytes; at most ${MAX_BYTES} are read`);
      return await h.readFile('utf8');
    } finally {
      await h.close();
    }
  }

  /** Changes whenever the file was written or replaced. */
  async #signature(): Promise<Signature> {
    try {
      const s = await stat(this.#file, { bigint: true });
      return `${s.ino} ${s.size} ${s.mtimeNs} ${s.ctimeNs}`;
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') return GONE;
      throw e;
    }
  }

  async #readStatus(): Promise<{ doc: PolicyDocument | undefined; revision: number } | undefined> {
    try {
      const kept = JSON.parse(await readFile(`${this.#file}.status`, 'utf8')) as {
        revision?: unknown;
        inForce?: unknown;
      };
      return {
        doc: this.#tryKept(kept.inForce),
        revision: Number.isInteger(kept.revision) ? Number(kept.revision) : 0,
      };
    } catch {
      // Absent, or not ours: the file alone tells.
      return undefined;
    }
  }

  #tryKept(value: unknown): PolicyDocument | undefined {
    try {
      return this.#codec.parse(value);
    } catch (e) {
      refusalText(e);
      return undefined;
    }
  }

  async #writeStatus(): Promise<void> {
    const s = this.#inForce.status;
    const text = { ...s, field: fieldOf(s.reason), at: new Date(s.atMs).toISOString(), inForce: this.#inForce.doc };
    try {
      await this.#write(`${this.#file}.status`, `${JSON.stringify(text, null, 2)}\n`);
    } catch (e) {
      this.#log('warn', 'policy.status-not-written', { file: `${this.#file}.status`, error: (e as Error).message });
    }
  }

  /** Replaces a file as a whole: readers see the old or the new content. A link is followed, mode and owner are kept. */
  async #write(path: string, text: string): Promise<void> {
    let h: FileHandle | undefined;
    let aside: string | undefined;
    try {
      const target = await realpath(path).catch(() => path);
      const old: BigIntStats | undefined = await stat(target, { bigint: true }).catch(() => undefined);
      aside = `${target}.${process.pid}.new`;
      h = await open(aside, 'w', old ? Number(old.mode & 0o777n) : 0o644);
      if (old) {
        await h.chmod(Number(old.mode & 0o777n));
        // Only root may give files away; anyone else owns what they wrote.
        await h.chown(Number(old.uid), Number(old.gid)).catch(() => undefined);
      }
      await h.writeFile(text);
      await h.sync();
      await h.close();
      h = undefined;
      await rename(aside, target);
      const folder = await open(dirname(target), 'r');
      await folder.sync().finally(() => folder.close());
    } catch (e) {
      await h?.close();
      if (aside !== undefined) await rm(aside, { force: true });
      throw new FairwayError('POLICY_FILE', `policy file ${path}: ${(e as Error).message}`, ['retryable'], e);
    }
  }
}

class PatchRefused extends Error {}

const invalid = (reason: string): FairwayError => new FairwayError('POLICY_INVALID', reason, ['badInput']);

/** Reads YAML (JSON is YAML too). Throws FairwayError (bad input) that tells the first mistake with its place. */
function readYaml(text: string): Document.Parsed {
  const yaml = parseDocument(text, { prettyErrors: true });
  const first = yaml.errors[0];
  if (!first) return yaml;
  const at = first.linePos?.[0];
  // The library's text goes on with a drawing of the line; the first line of it is the message.
  const message = first.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '');
  throw invalid(`${at ? `line ${at.line}, column ${at.col}` : '(document)'}: ${message}`);
}

const isTree = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Dotted paths of the smallest parts in which two documents differ. */
function changedPaths(a: unknown, b: unknown, prefix = ''): string[] {
  if (isDeepStrictEqual(a, b)) return [];
  if (!isTree(a) || !isTree(b)) return [prefix];
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].flatMap((k) => changedPaths(a[k], b[k], prefix === '' ? k : `${prefix}.${k}`));
}

/** Makes one part of the YAML text say what `doc` says there; comments around it stay. */
function setPath(yaml: Document.Parsed, path: readonly string[], doc: PolicyDocument): void {
  let value: unknown = doc;
  for (const key of path) value = isTree(value) && Object.hasOwn(value, key) ? value[key] : undefined;
  if (value === undefined) {
    if (yaml.hasIn(path)) yaml.deleteIn(path);
    return;
  }
  for (let depth = 0; depth < path.length; depth++) {
    const parent = depth === 0 ? yaml.contents : yaml.getIn(path.slice(0, depth), true);
    if (parent !== undefined && parent !== null && !isMap(parent)) {
      throw invalid(`${path.slice(0, depth).join('.') || '(document)'}: must hold fields`);
    }
  }
  yaml.setIn(path, isTree(value) || Array.isArray(value) ? yaml.createNode(value) : value);
}
