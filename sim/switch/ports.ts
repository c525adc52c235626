/**
 * Ports of an emulated switch, with their counters. emulatedSwitch.ts has them and counts; statistics.ts answers what is
 * asked of them.
 */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';

export interface PortSpec {
  portNo: number;
  name: string;
  hwAddr: string;
  speedBps: number;
}

/** A port and its counters, which are fractional while the fluid adds to them. */
export interface EmulatedPort extends PortSpec {
  isUp: boolean;
  rxPackets: number;
  txPackets: number;
  rxBytes: number;
  txBytes: number;
  txDropped: number;
  readonly sinceMs: number;
  /** What left by each queue. */
  readonly queues: Map<number, { txBytes: number; txPackets: number; readonly sinceMs: number }>;
}

/** A port as port descriptions and port-status messages have it. */
export function describePort(port: EmulatedPort) {
  const speedKbps = Math.round(port.speedBps / 1000);
  return of13.OFPPort({
    port_no: port.portNo,
    hw_addr: port.hwAddr,
    name: port.name,
    state: port.isUp ? ofp.OFPPS_LIVE : ofp.OFPPS_LINK_DOWN,
    curr: ofp.OFPPF_OTHER | ofp.OFPPF_FIBER,
    curr_speed: speedKbps,
    max_speed: speedKbps,
  });
}
