#!/bin/sh
# Installs the Debian packages that the integration tests and the lab use. Does nothing when all are there. Without root,
# or on another system, it says what is missing; the tests that need it then say that they are skipped.
# The tests start daemons of their own: no service of these packages is started by their installation.
# A package archive that is slow, or fails for a moment, is tried again.
set -eu

packages='openvswitch-switch openvswitch-testcontroller mininet redis-server iperf3 iputils-ping ethtool tcpdump cpio busybox-static iproute2 procps openssl python3-os-ken qemu-system-x86 qemu-utils'
# QEMU 7.2 corrupts guests during live migration when it runs without KVM.
qemu_least='1:10.0'
# libvirt without its system services. 9.0 knows neither QEMU 10's options nor compression by several connections.
libvirt_packages='libvirt0 libvirt-common libvirt-daemon libvirt-daemon-common libvirt-daemon-log libvirt-daemon-driver-qemu libvirt-clients'
libvirt_least='10.0'

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
qemu_version() { dpkg-query -W -f '${Version}' qemu-system-x86 2>/dev/null; }
qemu_is_recent() { installed qemu-system-x86 && dpkg --compare-versions "$(qemu_version)" ge "$qemu_least"; }
libvirt_version() { dpkg-query -W -f '${Version}' libvirt-daemon-driver-qemu 2>/dev/null; }
libvirt_is_recent() {
  installed libvirt-daemon-driver-qemu && installed libvirt-clients && installed libvirt-daemon &&
    dpkg --compare-versions "$(libvirt_version)" ge "$libvirt_least"
}
missing() {
  for p in $packages; do installed "$p" || printf '%s ' "$p"; done
  if installed qemu-system-x86 && ! qemu_is_recent; then printf 'qemu-system-x86 (%s or later) ' "$qemu_least"; fi
  if ! libvirt_is_recent; then printf 'libvirt-daemon-driver-qemu libvirt-clients (%s or later) ' "$libvirt_least"; fi
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "setup-system: not a Debian system; install what corresponds to: $packages" >&2
  exit 0
fi
lacking=$(missing)
# The guest kernel is fetched from the package lists when the lab builds its guest image.
kernel_is_known() { apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; }
if [ -z "$lacking" ] && kernel_is_known; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
  [ -z "$lacking" ] || echo "setup-system: not installed: $lacking- run scripts/setup-system.sh as root" >&2
  exit 0
fi

export DEBIAN_FRONTEND=noninteractive
# Where somebody else installs, that is waited for.
apt_options='-qq -o Acquire::Retries=3 -o Acquire::http::Timeout=60 -o DPkg::Lock::Timeout=300'
# Five tries of what is named first, with longer and longer waits between them: a minute and a quarter in all.
attempt() {
  what=$1
  shift
  for wait in 5 10 20 40; do
    if "$@"; then return 0; fi
    echo "setup-system: $what failed; again in $wait s" >&2
    sleep "$wait"
  done
  "$@"
}
# Of lists of which some could not be fetched, apt only warns; the packages would be missing afterwards.
# shellcheck disable=SC2086
all_lists() { apt-get update $apt_options -o APT::Update::Error-Mode=any; }
# When all tries have failed because of a list that may not be needed, the others are taken.
# shellcheck disable=SC2086
update() { attempt 'apt-get update' all_lists || apt-get update $apt_options; }
# shellcheck disable=SC2086
get_once() { apt-get install -y --no-install-recommends $apt_options "$@"; }
# A package that the lists name and the archive no longer has is there under another version in newer lists.
get_anew() { get_once "$@" || { all_lists && get_once "$@"; }; }
get() { attempt 'apt-get install' get_anew "$@"; }

unreachable='setup-system: apt-get update failed: see that the package archive can be reached'
# All that tests cannot do without is there: no waiting for the rest.
if [ -z "$lacking" ]; then
  all_lists || echo "$unreachable" >&2
  exit 0
fi
if ! update; then
  echo "$unreachable; not installed: $lacking" >&2
  exit 1
fi

# Where the release itself comes from, its backports come from too: same address, same keyring.
add_backports() {
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  if [ -z "$codename" ]; then
    echo 'setup-system: /etc/os-release names no release; cannot add its backports' >&2
    return 1
  fi
  targets=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI) $(SOURCESENTRY)' 'Identifier: Packages')
  if echo "$targets" | grep -q "^$codename-backports "; then return 0; fi
  line=$(echo "$targets" | grep "^$codename main " | head -n 1)
  if [ -z "$line" ]; then
    echo "setup-system: no source of $codename main among apt's sources; cannot add its backports" >&2
    return 1
  fi
  uri=$(echo "$line" | cut -d ' ' -f 3)
  entry=$(echo "$line" | cut -d ' ' -f 4-)
  keyring=$(sed -nE 's/.*[Ss]igned-[Bb]y[:=][[:space:]]*(\/[^][:space:]]+).*/\1/p' "${entry%:*}" | head -n 1)
  folder=$(apt-config shell folder Dir::Etc::sourceparts/d | cut -d "'" -f 2)
  {
    echo 'Types: deb'
    echo "URIs: $uri"
    echo "Suites: $codename-backports"
    echo 'Components: main'
    [ -z "$keyring" ] || echo "Signed-By: $keyring"
  } >"${folder%/}/fairway-backports.sources"
  update
}

# What the packages bring along is not to be started here; a policy that the machine has already stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
  trap 'exit 1' INT TERM
fi

candidate_of() { apt-cache policy "$1" | sed -n 's/^  Candidate: //p'; }
if ! qemu_is_recent; then
  if dpkg --compare-versions "$(candidate_of qemu-system-x86)" ge "$qemu_least"; then
    get qemu-system-x86
  else
    add_backports
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    get -t "$codename-backports" qemu-system-x86
  fi
fi
if ! libvirt_is_recent; then
  if dpkg --compare-versions "$(candidate_of libvirt-daemon-driver-qemu)" ge "$libvirt_least"; then
    # shellcheck disable=SC2086
    get $libvirt_packages
  else
    add_backports
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # By name, so that nothing else is taken from there: with -t, apt would renew half of the system.
    # shellcheck disable=SC2046
    get $(for p in $libvirt_packages; do printf '%s/%s-backports ' "$p" "$codename"; done)
  fi
fi
# shellcheck disable=SC2086
get $packages
lacking=$(missing)
[ -z "$lacking" ] || { echo "setup-system: still missing: $lacking" >&2; exit 1; }
