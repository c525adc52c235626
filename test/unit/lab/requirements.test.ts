/** What the lab says is missing, on machines that lack it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkRequirements, REDIS, whyNoLab, whyNoQemu } from '../../../sim/lab/requirements.ts';

const { PATH } = process.env;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-programs-'));
  process.env.PATH = folder;
});
afterEach(() => {
  process.env.PATH = PATH;
  jest.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const install = (name: string, says: string) =>
  writeFileSync(join(folder, name), `#!/bin/sh\necho '${says}'\n`, { mode: 0o755 });
const as = (uid: number) => jest.spyOn(process, 'getuid' as never).mockReturnValue(uid as never);

test('an ordinary user is told to be root, whatever else is missing', () => {
  as(1000);
  expect(whyNoLab()).toContain('must run as root');
  expect(() => checkRequirements()).toThrow(expect.objectContaining({ code: 'lab.root' }));
});

test('programs that are not there are named, with the package that brings them', () => {
  as(0);
  install('ip', '');
  const why = whyNoLab(REDIS) ?? '';
  expect(why).toMatch(/^not installed: tc \(package iproute2\), .*ovs-vswitchd \(package openvswitch-switch\)/);
  expect(why).toMatch(/redis-server \(package redis-server\)/);
  expect(why).not.toMatch(/\bip \(/);
  expect(() => checkRequirements()).toThrow(expect.objectContaining({ code: 'lab.missing' }));
});

test('a file that is no program is not taken for one', () => {
  as(0);
  writeFileSync(join(folder, 'ip'), '', { mode: 0o644 });
  expect(whyNoLab()).toMatch(/^not installed: ip /);
});

test.each([
  ['QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7)', 'QEMU 7 corrupts guests'],
  ['something else', 'QEMU of unknown version corrupts guests'],
])('%s is refused', (says, why) => {
  install('qemu-system-x86_64', says);
  expect(whyNoQemu()).toContain(why);
});

test('a recent QEMU will do, and none is said to be missing', () => {
  expect(whyNoQemu()).toBe('qemu-system-x86_64 is not installed');
  install('qemu-system-x86_64', 'QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)');
  expect(whyNoQemu()).toBeUndefined();
});
