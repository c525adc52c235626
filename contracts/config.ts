/** Configuration files of `fairway controller` and `fairway agent` (YAML or JSON). `docs/configuration.md` explains each key. */
import { z } from 'zod';
import { guestSpecSchema } from './agent.ts';
import { dpidSchema, labelsSchema, nameSchema } from './common.ts';
import { parseRateBps } from './units.ts';

const rate = z.union([z.string(), z.number()]).transform((v, ctx) => {
  const bps = parseRateBps(v);
  if (bps === undefined) {
    ctx.addIssue({ code: 'custom', message: 'must be a rate such as "200 Mbit/s"' });
    return z.NEVER;
  }
  return bps;
});
const tcpPort = z.number().int().min(1).max(65_535);
const listen = z.strictObject({ host: z.string().default('127.0.0.1'), port: z.number().int().min(0).max(65535) });

/** PEM files, and which certificate speaks for which datapath. */
const openflowTls = z.strictObject({
  key: z.string(),
  cert: z.string(),
  /** Certificates of the authorities that switches' certificates come from. */
  ca: z.string(),
  /** Common name or SHA-256 fingerprint of the certificate a datapath must present, by datapath id. */
  certificates: z.record(dpidSchema, z.string()).default({}),
  /** Accept genuine certificates that are bound to no datapath. */
  allowUnbound: z.boolean().default(false),
});

export const controllerConfigSchema = z.strictObject({
  /** Where switches connect, and which are connected to. */
  openflow: z
    .strictObject({
      ...listen.shape,
      tls: openflowTls.optional(),
      /** equal: the only controller. primary: in charge of its switches, unless `peer` is. standby: takes over from `peer`. */
      role: z.enum(['equal', 'primary', 'standby']).default('equal'),
      /** HTTP address of the other controller of a pair, such as `http://192.0.2.1:8653`. */
      peer: z
        .string()
        .regex(/^https?:\/\//, 'must be an http:// or https:// address')
        .optional(),
      /** Switches that wait to be connected to: `tcp:host:port` or `ssl:host:port`. */
      connect: z.array(z.string()).default([]),
      maxConnections: z.number().int().min(1).default(10_000),
      maxPerAddress: z.number().int().min(1).default(2000),
    })
    .refine((o) => o.role === 'equal' || o.peer !== undefined, {
      path: ['peer'],
      message: 'a primary and a standby need the HTTP address of the other; a controller that stands alone is "equal"',
    })
    .prefault({ port: 6653 }),
  /** HTTP interface, feed and agents. */
  http: listen.prefault({ port: 8653 }),
  /** managed: paths computed here; normal: the switches' own learning forwards, Fairway only classifies and reserves. */
  forwarding: z.enum(['managed', 'normal']).default('managed'),
  /** File with the token agents, feed readers and the CLI present; made (mode 0600) when absent. Env FAIRWAY_TOKEN overrides. */
  tokenFile: z.string().default('fairway.token'),
  policy: z
    .strictObject({
      store: z.enum(['memory', 'file', 'redis']).default('file'),
      file: z.string().default('policy.yaml'),
      redisUrl: z.string().default('redis://127.0.0.1:6379'),
      /** Prefix of the Redis keys: `<prefix>policy`, `<prefix>policy:status`. */
      redisPrefix: z.string().default('fairway:'),
    })
    .prefault({}),
  /** What switches cannot say themselves, by datapath id. */
  switches: z
    .record(
      dpidSchema,
      z.strictObject({
        name: nameSchema.optional(),
        /** OVSDB of the switch, for queues: `unix:/path` or `tcp:host:port`. */
        ovsdb: z.string().optional(),
        /** Its address in the IP network that tunnels go through; the switch's host must have it. Needs `ovsdb`. */
        tunnelAddress: z.union([z.ipv4(), z.ipv6()]).optional(),
        /**
         * By port name. `capacity`: where switch and database say a wrong one or none. `ipNetwork`: the port leads to the IP network
         * (a router, or the data centre's fabric) that joins this switch's network with others.
         */
        ports: z
          .record(z.string(), z.strictObject({ capacity: rate.optional(), ipNetwork: z.boolean().default(false) }))
          .default({}),
      }),
    )
    .default({}),
  /** How stragglers cross an IP network, between switches that have a `tunnelAddress`. */
  tunnels: z
    .strictObject({
      kind: z.enum(['vxlan', 'gre', 'geneve']).default('vxlan'),
      /** fallback: where the fabric has no way for a VLAN label; always: in place of labels. */
      use: z.enum(['fallback', 'always']).default('fallback'),
      /** UDP port of vxlan and geneve, where it is not the assigned one (4789, 6081). */
      udpPort: z.number().int().min(1).max(65_535).optional(),
    })
    .prefault({}),
  /** Capacity of ports of which neither this file nor the switch nor its database says one. */
  defaultCapacity: rate.prefault('1 Gbit/s'),
  discovery: z
    .strictObject({
      /** File with the key that signs probes, for several controllers of one network; absent: a key of its own at each start. */
      keyFile: z.string().optional(),
    })
    .prefault({}),
  journal: z.string().default('fairway.journal'),
});
export type ControllerConfig = z.infer<typeof controllerConfigSchema>;

const controllerAddress = z.string().regex(/^wss?:\/\//, 'must be a ws:// or wss:// address');

export const agentConfigSchema = z
  .strictObject({
    host: nameSchema,
    /** ws://host:port of the controller; with a standby, of both. */
    controller: z.union([controllerAddress, z.array(controllerAddress).min(1).max(8)]),
    tokenFile: z.string().default('fairway.token'),
    driver: z.enum(['qmp', 'libvirt', 'emulated', 'none']).default('qmp'),
    migrationIp: z.union([z.ipv4(), z.ipv6()], 'must be an IP address, such as 10.0.0.11').optional(),
    dpid: dpidSchema.optional(),
    migrationPort: z.string().optional(),
    /** Directory for sockets, guest definitions and state; created with mode 0700. */
    runDir: z.string().default('/run/fairway-agent'),
    qemu: z.string().default('qemu-system-x86_64'),
    /** Driver `libvirt`: the guests are libvirt's, and are copied by it. */
    libvirt: z
      .strictObject({
        uri: z.string().min(1).default('qemu:///system'),
        /**
         * Connection URI at which other hosts' libvirt daemons (mode `p2p`) or agents (`direct`) reach this host's. Default
         * `qemu+tls://<migrationIp>/system`.
         */
        peerUri: z.string().min(1).optional(),
        /** p2p: the source's daemon speaks to the destination's, and goes on if the agent ends; direct: `virsh` speaks to both. */
        mode: z.enum(['p2p', 'direct']).default('p2p'),
        /** Paces are set to the byte by `qemu-monitor-command`, which libvirt marks the guest with; else to whole MiB/s. */
        monitorCommands: z.boolean().default(true),
        /** Copies go over TLS with the certificates of libvirt's own configuration, and never without. */
        migrationTls: z.boolean().default(false),
        virsh: z.string().default('virsh'),
      })
      .prefault({}),
    /** The local Open vSwitch that guests' network cards and queue filters belong to. */
    ovs: z.strictObject({ db: z.string().default('unix:/run/openvswitch/db.sock'), bridge: z.string() }).optional(),
    /** TCP ports offered to incoming migrations, [from, to]. */
    incomingPorts: z
      .tuple([tcpPort, tcpPort])
      .refine(([from, to]) => from <= to, 'the first port must not be above the last')
      .default([49152, 49215]),
    /** Most migrations at a time that leave this host, and that come to it. Default: no limit. */
    limits: z
      .strictObject({ outgoing: z.number().int().min(1).optional(), incoming: z.number().int().min(1).optional() })
      .prefault({}),
    /** Memory that guests may have here together, MiB; evacuations and plans keep to it. Default: what the host has, less a reserve. */
    guestMemoryMiB: z.number().int().min(1).max(1_073_741_824).optional(),
    /** What guests' labels `only-on` and `never-on` name. */
    hostLabels: labelsSchema.default({}),
    /** A guest that stands still before its switch-over waits this long for the controller; then its copy goes on by itself. */
    switchoverWaitMs: z.number().int().min(100).max(600_000).default(5000),
    /** Folders that kernels, initial RAM disks and disks of guests sent here may lie in. Empty: anywhere. */
    guestFiles: z.array(z.string().startsWith('/')).default([]),
    /** Where disks of guests that come here are put. Default: where they were on the host they come from. */
    diskFolder: z.string().startsWith('/').optional(),
    /** Driver qmp: folder with QEMU's x509 credentials; copies then go over TLS, and never without. */
    migrationTls: z.strictObject({ dir: z.string().startsWith('/') }).optional(),
    /** Guests to start with the agent. */
    guests: z.array(guestSpecSchema).default([]),
  })
  .refine((c) => c.driver !== 'libvirt' || c.migrationTls === undefined, {
    path: ['migrationTls'],
    message: 'is for driver qmp; libvirt has certificates of its own: set libvirt.migrationTls instead',
  });
export type AgentConfig = z.infer<typeof agentConfigSchema>;
