/** Disks in libvirt's definitions: which are a guest's own, how large they are, and a definition that has them elsewhere. */
import { moveDisks, readCapacities, readDisks, toDisks, whyNotCopied } from '../../../agent/core/libvirtDisks.ts';

/** As libvirt 11.3 prints a running guest: an overlay, a raw file with odd letters in its name, and what is not the guest's own. */
const XML = `<domain type='kvm'>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/images/top.qcow2' index='3'/>
      <backingStore type='file' index='4'>
        <format type='qcow2'/>
        <source file='/images/middle.qcow2'/>
        <backingStore type='file' index='5'>
          <format type='raw'/>
          <source file='/images/base.img'/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='/images/a&amp;b&apos;s.img' index='2'/>
      <backingStore/>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='/dev/vg/lv'/>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <source file='/images/both.img'/>
      <target dev='vdd' bus='virtio'/>
      <shareable/>
    </disk>
    <disk type='file' device='cdrom'>
      <source file='/images/cd.iso'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='sdb' bus='sata'/>
      <readonly/>
    </disk>
  </devices>
</domain>
`;
const TABLE = ` vda      1073741824   4096       1073741824
 vdb      1000         0          -
 sdb      -            -          -
`;

test('the disks of a guest are those that are its own', () => {
  const disks = readDisks(XML);
  expect(disks).toEqual([
    { target: 'vda', type: 'file', path: '/images/top.qcow2', format: 'qcow2' },
    { target: 'vdb', type: 'file', path: "/images/a&b's.img", format: 'raw' },
    { target: 'vdc', type: 'block', format: 'raw' },
  ]);
  expect(disks.map(whyNotCopied)).toEqual([
    undefined,
    undefined,
    expect.stringMatching(/vdc is of type block.*detach/),
  ]);
  expect(whyNotCopied({ target: 'vde', type: 'file', path: '/x', format: 'vmdk' })).toMatch(/qemu-img/);
  expect(toDisks(disks, readCapacities(TABLE))).toEqual([
    { path: '/images/top.qcow2', sizeBytes: 2 ** 30, format: 'qcow2' },
    { path: "/images/a&b's.img", sizeBytes: 1024, format: 'raw' },
  ]);
  // Of a size that is not known nothing can be made.
  expect(toDisks(disks, new Map())).toEqual([]);
  expect(readDisks('')).toEqual([]);
});

test('pieces of a definition, as --xpath prints them, are read alike', () => {
  const piece = ' type="kvm"\n<disk type="file" device="disk"><source file="/a.img"/><target dev="vda"/></disk>\n';
  expect(readDisks(piece)).toEqual([{ target: 'vda', type: 'file', path: '/a.img', format: 'raw' }]);
});

test('a definition with its disks elsewhere is otherwise the same, and names no backing files of them', () => {
  const paths = new Map([
    ['/images/top.qcow2', '/elsewhere/top.qcow2'],
    ["/images/a&b's.img", "/elsewhere/a&b's.img"],
  ]);
  const moved = moveDisks(XML, paths);
  expect(readDisks(moved).map((d) => d.path)).toEqual(['/elsewhere/top.qcow2', "/elsewhere/a&b's.img", undefined]);
  expect(moved).not.toMatch(/middle|base\.img/);
  const back = moveDisks(moved, new Map([...paths].map(([from, to]) => [to, from])));
  const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '');
  const isKept = (line: string) => lines(back).includes(line);
  // Gone are the lines of the backing files and nothing else.
  expect(
    lines(XML)
      .filter((line) => !isKept(line))
      .every((line) => /backingStore|format|middle|base/.test(line)),
  ).toBe(true);
  expect(lines(back).every((line) => XML.includes(line))).toBe(true);
  expect(moveDisks(XML, new Map())).toBe(XML);
});
