/** The network as an immutable graph (`topology.ts`) and the paths over it (`paths.ts`, `disjoint.ts`, `spread.ts`). */
export { type DisjointOptions, disjointPaths } from './disjoint.ts';
export {
  findPath,
  floodPorts,
  narrowest,
  nextHops,
  type Path,
  type PathOptions,
  type Towards,
  towards,
} from './paths.ts';
export { allNextHops, type NextHops } from './spread.ts';
export {
  type CapacitySource,
  isUsablePort,
  type Link,
  LOCAL_PORT,
  type Location,
  linkId,
  type Port,
  type PortRef,
  parseLinkId,
  type SwitchNode,
  Topology,
} from './topology.ts';
