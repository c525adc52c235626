#!/bin/busybox sh
# First and only process of the lab's guest. It reads its orders from the kernel command line and then does three things
# until it is switched off: dirties memory at a known rate, counts aloud on the serial console, and answers on the network
# (ping, and the counter at http://<ip>/count).
#
#   fw.ip=10.0.0.9/24      address of eth0 (no network when absent)
#   fw.gw=10.0.0.1         default route (optional)
#   fw.dirty_pages=2000    pages of 4 KiB dirtied each second
#   fw.dirty_mib=64        … spread evenly over so much memory
#   fw.count_ms=200        period of the counter
#
# build.ts packs it with busybox and the kernel modules listed in /etc/modules.order.
/bin/busybox mkdir -p /proc /sys /dev /run /mem /www /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs -o size=95% mem /mem
exec </dev/console >/dev/console 2>&1
dmesg -n 3

ip_cidr=; gateway=; dirty_pages=0; dirty_mib=64; count_ms=200
for word in $(cat /proc/cmdline); do
  case "$word" in
    fw.ip=*) ip_cidr=${word#*=} ;;
    fw.gw=*) gateway=${word#*=} ;;
    fw.dirty_pages=*) dirty_pages=${word#*=} ;;
    fw.dirty_mib=*) dirty_mib=${word#*=} ;;
    fw.count_ms=*) count_ms=${word#*=} ;;
  esac
done

while read -r module; do insmod "/modules/$module.ko" || echo "fw: module $module failed"; done </etc/modules.order

ip link set lo up
if [ -n "$ip_cidr" ]; then
  tries=0
  while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 20 ]; do usleep 100000; tries=$((tries + 1)); done
  ip addr add "$ip_cidr" dev eth0
  ip link set eth0 up
  [ -n "$gateway" ] && ip route add default via "$gateway"
fi
echo 0 >/www/count
httpd -p 80 -h /www

# Time since boot in hundredths of a second; the guest's clock stands still while the guest does.
centis() { read -r up _ </proc/uptime; now=${up%.*}${up#*.}; now=${now#0}; now=${now#0}; }

dirty() {
  total=$((dirty_mib * 256))
  # A source of random pages, read from a different offset in each round: a page's content changes with every write, as
  # real data does, and it is neither zero nor compressible.
  source_pages=509
  dd if=/dev/urandom of=/mem/source bs=4096 count=$source_pages status=none
  cat /mem/source /mem/source >/mem/source2; mv /mem/source2 /mem/source
  at=0
  while [ $at -lt $total ]; do
    n=$((total - at)); [ $n -gt $source_pages ] && n=$source_pages
    dd if=/mem/source of=/mem/work bs=4096 count=$n seek=$at conv=notrunc status=none
    at=$((at + n))
  done
  echo "fw: working set of $dirty_mib MiB, $dirty_pages pages/s"
  [ "$dirty_pages" -gt 0 ] || return
  at=0; written=0; round=0
  centis; start=$now
  while :; do
    usleep 100000
    centis
    due=$(((now - start) * dirty_pages / 100 - written))
    # What cannot be caught up within a second is forgiven, lest a slow host makes the guest dirty in bursts.
    if [ $due -gt "$dirty_pages" ]; then written=$((written + due - dirty_pages)); due=$dirty_pages; fi
    while [ $due -gt 0 ]; do
      n=$due
      [ $n -gt $source_pages ] && n=$source_pages
      [ $n -gt $((total - at)) ] && n=$((total - at))
      dd if=/mem/source of=/mem/work bs=$((n * 4096)) count=1 iflag=skip_bytes oflag=seek_bytes \
        skip=$((round * 4096)) seek=$((at * 4096)) conv=notrunc status=none
      due=$((due - n)); written=$((written + n)); at=$((at + n))
      round=$(((round + 97) % source_pages))
      [ $at -ge $total ] && at=0
    done
  done
}
dirty &

count=0
echo "fw: ready"
while :; do
  count=$((count + 1))
  echo "fw-count $count"
  echo $count >/www/count.new
  mv /www/count.new /www/count
  usleep $((count_ms * 1000))
done
