#!/bin/busybox sh
# First and only process of the lab's guest. It reads its orders from the kernel command line and then does three things
# until it is switched off: dirties memory at a known rate, counts aloud on the serial console, and answers on the network
# (ping, the counter at http://<ip>/count, and http://<ip>/cgi-bin/dirty?<pages>,<MiB>,<kind>, which changes what is dirtied;
# /dirty says what is in force). If it has a disk and is told to, it writes and reads that, too.
#
#   fw.ip=10.0.0.9/24      address of eth0 (no network when absent)
#   fw.gw=10.0.0.1         default route (optional)
#   fw.dirty_pages=2000    pages of 4 KiB dirtied each second
#   fw.dirty_mib=64        … spread evenly over so much memory
#   fw.dirty_kind=random   what is written: random pages, or records: a table of which one record of each page changes
#   fw.fill_mib=64         memory that is filled with random pages at the start, at least fw.dirty_mib
#   fw.count_ms=200        period of the counter
#   fw.disk_write_mib=8    the first disk: so much of its beginning is written over and over, block by numbered block …
#   fw.disk_block_kib=64   … of this size …
#   fw.disk_write_ms=100   … one in each such period, told as `fw-disk <n>` once it is on the disk
#   fw.disk_read_mib=24    … and so much behind that is read over and over, told as `fw-sum <md5>` (0: not at all)
#   fw.disk_read_ms=5000   pause between two such readings
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

ip_cidr=; gateway=; dirty_pages=0; dirty_mib=64; dirty_kind=random; fill_mib=0; count_ms=200
disk_write_mib=0; disk_block_kib=64; disk_write_ms=100; disk_read_mib=0; disk_read_ms=5000
for word in $(cat /proc/cmdline); do
  case "$word" in
    fw.ip=*) ip_cidr=${word#*=} ;;
    fw.gw=*) gateway=${word#*=} ;;
    fw.dirty_pages=*) dirty_pages=${word#*=} ;;
    fw.dirty_mib=*) dirty_mib=${word#*=} ;;
    fw.dirty_kind=*) dirty_kind=${word#*=} ;;
    fw.fill_mib=*) fill_mib=${word#*=} ;;
    fw.count_ms=*) count_ms=${word#*=} ;;
    fw.disk_write_mib=*) disk_write_mib=${word#*=} ;;
    fw.disk_block_kib=*) disk_block_kib=${word#*=} ;;
    fw.disk_write_ms=*) disk_write_ms=${word#*=} ;;
    fw.disk_read_mib=*) disk_read_mib=${word#*=} ;;
    fw.disk_read_ms=*) disk_read_ms=${word#*=} ;;
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
echo "$dirty_pages,$dirty_mib,$dirty_kind" >/run/dirty
mkdir /www/cgi-bin
cat >/www/cgi-bin/dirty <<'END'
#!/bin/sh
echo "$QUERY_STRING" >/run/dirty.new
mv /run/dirty.new /run/dirty
printf 'Content-Type: text/plain\r\n\r\n%s\n' "$QUERY_STRING"
END
chmod +x /www/cgi-bin/dirty
httpd -p 80 -h /www

# Time since boot in hundredths of a second; the guest's clock stands still while the guest does.
centis() { read -r up _ </proc/uptime; now=${up%.*}${up#*.}; now=${now#0}; now=${now#0}; }

# 509 pages to write with, twice in a row, so that any 509 of them can be read at once. Which ones are written where changes with
# each round, so that a page never gets the content it has.
make_source() {
  if [ "$1" = records ]; then
    # A table in memory: 63 records of 64 bytes that stay as they are, and one that is different in each page. Of a page that
    # is written again one record changes, and zlib leaves a fifth of it.
    table=; i=0
    while [ $i -lt 63 ]; do
      read -r id </proc/sys/kernel/random/uuid
      table="$table$(printf '%06d account %s of customer %06d: paid and shipped on ' $i "${id%%-*}" $((i * 37)))"
      i=$((i + 1))
    done
    i=0
    while [ $i -lt $source_pages ]; do printf '%s%064d' "$table" $i; i=$((i + 1)); done >/mem/source
  else
    # Neither zero nor compressible.
    dd if=/dev/urandom of=/mem/source bs=4096 count=$source_pages status=none
  fi
  cat /mem/source /mem/source >/mem/source2; mv /mem/source2 /mem/source
}

dirty() {
  source_pages=509
  make_source random
  [ $fill_mib -lt $dirty_mib ] && fill_mib=$dirty_mib
  at=0; total=$((fill_mib * 256))
  while [ $at -lt $total ]; do
    n=$((total - at)); [ $n -gt $source_pages ] && n=$source_pages
    dd if=/mem/source of=/mem/work bs=4096 count=$n seek=$at conv=notrunc status=none
    at=$((at + n))
  done
  echo "fw: $fill_mib MiB filled"
  writes=random; order=; at=0; round=0
  while :; do
    usleep 100000
    read -r ordered </run/dirty
    if [ "$ordered" != "$order" ]; then
      order=$ordered
      IFS=, read -r dirty_pages dirty_mib kind </run/dirty
      [ $dirty_mib -gt $fill_mib ] && dirty_mib=$fill_mib
      total=$((dirty_mib * 256)); at=0; written=0
      if [ "$kind" != "$writes" ]; then make_source "$kind"; writes=$kind; fi
      echo "fw: working set of $dirty_mib MiB, $dirty_pages pages/s, $writes"
      # Whoever gave the order can see that it is carried out.
      echo "$order" >/www/dirty
      centis; start=$now
    fi
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

disk=/dev/vda
write_disk() {
  blocks=$((disk_write_mib * 1024 / disk_block_kib)); block=0
  while :; do
    block=$((block + 1))
    # A block of lines of 64 bytes that all say its number: on the disk it is whole, old or torn, and one can see which.
    yes "$(printf 'fw-block %054d' $block)" | dd of=$disk bs=$((disk_block_kib * 1024)) count=1 iflag=fullblock \
      seek=$(((block - 1) % blocks)) conv=notrunc,fsync status=none
    echo "fw-disk $block"
    usleep $((disk_write_ms * 1000))
  done
}
read_disk() {
  while :; do
    echo 3 >/proc/sys/vm/drop_caches
    sum=$(dd if=$disk bs=1048576 skip="$disk_write_mib" count="$disk_read_mib" status=none | md5sum)
    echo "fw-sum ${sum%% *}"
    usleep $((disk_read_ms * 1000))
  done
}
[ "$disk_write_mib" -gt 0 ] && write_disk &
[ "$disk_read_mib" -gt 0 ] && read_disk &

count=0
echo "fw: ready"
while :; do
  count=$((count + 1))
  echo "fw-count $count"
  echo $count >/www/count.new
  mv /www/count.new /www/count
  usleep $((count_ms * 1000))
done
