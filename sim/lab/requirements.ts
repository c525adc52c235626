/**
 * What the lab needs of the machine: root, for network namespaces, and the system's programs. Asked before anything is made,
 * by the lab itself (`checkRequirements`) and by the tests that use it (`whyNoLab`), which are skipped where it is missing.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { FairwayError } from '../../contracts/common.ts';

/** A program, by name or path, and where it comes from. */
export interface Program {
  name: string;
  package: string;
}

const PROGRAMS: readonly Program[] = [
  { name: 'ip', package: 'package iproute2' },
  { name: 'tc', package: 'package iproute2' },
  { name: 'ethtool', package: 'package ethtool' },
  { name: 'ovs-vswitchd', package: 'package openvswitch-switch' },
  { name: 'ovsdb-server', package: 'package openvswitch-switch' },
  { name: 'qemu-system-x86_64', package: 'package qemu-system-x86, version 10' },
  { name: 'chrt', package: 'package util-linux' },
  { name: '/usr/bin/python3', package: 'package python3' },
  { name: 'iperf3', package: 'package iperf3' },
  { name: 'ping', package: 'package iputils-ping' },
  { name: 'cpio', package: 'package cpio' },
];
/** For scenarios whose policy lives in Redis. */
export const REDIS: readonly Program[] = [
  { name: 'redis-server', package: 'package redis-server' },
  { name: 'redis-cli', package: 'package redis-tools' },
];
/** For scenarios with disks. */
export const DISKS: readonly Program[] = [
  { name: 'qemu-img', package: 'package qemu-utils' },
  { name: 'ss', package: 'package iproute2' },
];

/** Whether a program can be started: by its path, or by its name in one of the folders of `PATH`. */
function isThere(program: string): boolean {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter);
  return folders.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Why the QEMU of this machine cannot move the lab's guests, or undefined when it can. */
export function whyNoQemu(): string | undefined {
  const asked = spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8', env: process.env });
  if (asked.error !== undefined) return 'qemu-system-x86_64 is not installed';
  const version = /version (\d+)/.exec(asked.stdout)?.[1] ?? 'of unknown version';
  return Number(version) >= 10
    ? undefined
    : `QEMU ${version} corrupts guests that run without KVM (install 10 from backports)`;
}

function whatIsMissing(more: readonly Program[]): FairwayError | undefined {
  if (process.getuid?.() !== 0) {
    return new FairwayError(
      'lab.root',
      'the lab makes network namespaces and bridges and must run as root: use `sudo npx fairway lab …`',
      ['badInput'],
    );
  }
  const missing = [...PROGRAMS, ...more].filter((p) => !isThere(p.name)).map((p) => `${p.name} (${p.package})`);
  if (missing.length > 0) {
    return new FairwayError('lab.missing', `not installed: ${missing.join(', ')}`, ['badInput']);
  }
  const unfit = whyNoQemu();
  return unfit === undefined ? undefined : new FairwayError('lab.missing', unfit, ['badInput']);
}

/**
 * Fails with FairwayError `lab.root` unless the process may make namespaces, `lab.missing` when a program is not installed
 * or QEMU is too old.
 *
 * @param more what is needed besides what every lab needs
 */
export function checkRequirements(more: readonly Program[] = []): void {
  const problem = whatIsMissing(more);
  if (problem !== undefined) throw problem;
}

/** Why no lab can stand on this machine, as `checkRequirements` says it; undefined when one can. */
export const whyNoLab = (more: readonly Program[] = []): string | undefined => whatIsMissing(more)?.message;
